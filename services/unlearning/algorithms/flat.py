"""FLAT: drive the answer to forget and another answer to the same prompt apart, without retain data.

For each pair, with P_e the mean probability of the other answer's counted tokens and P_f that of the answer to forget,
the loss is ``-g(P_e) + f*(g(P_f))``: the variational form of an f-divergence between the two (Wang et al. 2025, arXiv
2410.11143, the table of divergences)::

    tv       -tanh(P_e) / 2 + tanh(P_f) / 2
    kl       -P_e + exp(P_f - 1)
    pearson  -P_e + P_f^2 / 4 + P_f
"""

from dataclasses import dataclass

from torch import Tensor, nn

from palimpsest.training.batches import Batch
from palimpsest.training.token_losses import counts, token_nll
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import Combined
from services.unlearning.algorithms.parameters import Parameters, choice, number
from services.unlearning.algorithms.regularisers import retain_term


@dataclass(frozen=True, kw_only=True)
class FlatParameters(Parameters):
    """Hyper-parameters of FLAT: the divergence ("tv", "kl" or "pearson"), and those of an optional retain term."""

    divergence: str = choice("tv", "tv", "kl", "pearson")
    regulariser: str = choice("none", "none", "gdr", "klr")
    gamma: float = number(1.0, 0, 1000)
    alpha: float = number(1.0, 0, 1000)


def flat(other: Tensor, forget: Tensor, divergence: str) -> Tensor:
    """FLAT's loss of mean token probabilities P_e and P_f, [batch] each: a scalar, the mean over pairs."""
    if divergence == "tv":
        terms = (forget.tanh() - other.tanh()) / 2
    elif divergence == "kl":
        terms = (forget - 1).exp() - other
    else:
        terms = forget**2 / 4 + forget - other
    return terms.mean()


def mean_probability(module: nn.Module, batch: Batch) -> Tensor:
    """Mean probability of each sequence's counted tokens: [batch]."""
    probability = (-token_nll(module, batch)).exp() * batch.counted[:, 1:]
    return probability.sum(dim=1) / counts(batch).clamp(min=1)


def build_flat(parameters: FlatParameters, inputs: Inputs) -> Combined:
    """FLAT."""

    def forget(module: nn.Module, step: int) -> Tensor:
        other = mean_probability(module, inputs.alternative_batch(step)[0])
        return flat(other, mean_probability(module, inputs.forget_batch(step)), parameters.divergence)

    retain = retain_term(parameters.regulariser, inputs)
    return Combined(forget, parameters.gamma, retain, parameters.alpha)
