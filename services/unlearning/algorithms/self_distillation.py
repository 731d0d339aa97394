"""UNDIAL: the model learns its own earlier distributions with the true token's logit lowered.

The loss is the cross-entropy ``mean_t -sum_v q_t(v) log p_t(v)`` over the counted tokens, against
``q_t = softmax(z_ref,t - beta onehot(x_t))``, with z_ref the logits of the model before the request
(Dong et al. 2025, arXiv 2402.10052).
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
from services.unlearning.algorithms.regularisers import retain_term


@dataclass(frozen=True, kw_only=True)
class UndialParameters(Parameters):
    """Hyper-parameters of UNDIAL: what is taken from the logit (``beta``), and those of the retain term."""

    beta: float = number(10.0, 0, 1000)
    regulariser: str = choice("none", "none", "gdr", "klr")
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
