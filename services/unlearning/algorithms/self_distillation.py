"""Distributions to learn on the forget set: UNDIAL's, and those of a model that never saw it (bad teaching).

With p the model's next-token distributions, and means over the forget set's counted tokens::

    UNDIAL        mean_t -sum_v q_t(v) log p_t(v)       q_t = softmax(z_ref,t - beta onehot(x_t))
    bad teaching  mean_t KL(q_t || p_t)                 q_t of a model before any of the data

z_ref are the logits of the model before the request (Dong et al. 2025, arXiv 2402.10052). Bad teaching is after
Chundawat et al. 2023 (arXiv 2205.08096), whose teacher is a classifier of random weights; one that is fluent, such as
the base model that was fine-tuned on the data, is ours. Ascent goes on where nothing is known any more. This loss ends
at 0, where every token of the forget set is as likely as to the teacher.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from palimpsest.training.batches import Batch
from palimpsest.training.token_losses import at_positions, counts
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import Combined
from services.unlearning.algorithms.parameters import Parameters, choice, number
from services.unlearning.algorithms.reference import reference_logits
from services.unlearning.algorithms.regularisers import divergence, retain_term


@dataclass(frozen=True, kw_only=True)
class UndialParameters(Parameters):
    """Hyper-parameters of UNDIAL: what is taken from the logit (``beta``), and those of the retain term."""

    beta: float = number(10.0, 0, 1000)
    regulariser: str = choice("none", "none", "gdr", "klr")
    gamma: float = number(1.0, 0, 1000)
    alpha: float = number(1.0, 0, 1000)


@dataclass(frozen=True, kw_only=True)
class TeachingParameters(Parameters):
    """Hyper-parameters of bad teaching: those of the retain term.

    There is no KLR: its reference is the model before the request, and this run's is the teacher.
    """

    regulariser: str = choice("gdr", "none", "gdr")
    gamma: float = number(1.0, 0, 1000)
    alpha: float = number(1.0, 0, 1000)


def undial(module: nn.Module, reference: nn.Module | None, batch: Batch, beta: float) -> Tensor:
    """Cross-entropy against the reference's adjusted distributions: a scalar, the mean over counted tokens.

    ``reference`` None stands for the module with its adapter off.
    """
    theirs = reference_logits(module, reference, batch)

    def position(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        adjusted = theirs(rows, columns)  # (n, vocabulary)
        true = batch.ids[rows, columns + 1][:, None]
        adjusted = adjusted.scatter_add(1, true, adjusted.new_full(true.shape, -beta))
        return -(adjusted.softmax(dim=-1) * functional.log_softmax(logits, dim=-1)).sum(dim=-1)

    return at_positions(module, batch, position).sum() / counts(batch).sum().clamp(min=1)


def build_undial(parameters: UndialParameters, inputs: Inputs) -> Combined:
    """UNDIAL; ``inputs.reference`` is the model before the request."""

    def forget(module: nn.Module, step: int) -> Tensor:
        return undial(module, inputs.reference, inputs.forget_batch(step), parameters.beta)

    retain = retain_term(parameters.regulariser, inputs)
    return Combined(forget, parameters.gamma, retain, parameters.alpha)


def build_teaching(parameters: TeachingParameters, inputs: Inputs) -> Combined:
    """Bad teaching; ``inputs.reference`` is the teacher."""
    teacher = inputs.reference
    assert teacher is not None

    def forget(module: nn.Module, step: int) -> Tensor:
        return divergence(module, teacher, inputs.forget_batch(step))

    retain = retain_term(parameters.regulariser, inputs)
    return Combined(forget, parameters.gamma, retain, parameters.alpha)
