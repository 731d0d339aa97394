"""NPO with sharpness-aware minimisation: forgetting that survives small changes of the weights.

The forget term is minimised where the weights are worst for it within a ball of radius rho (Fan et al. 2025, arXiv
2502.05374; Foret et al. 2021, equation 2)::

    e = rho g / |g|,  g = grad L_forget(theta)
    update with grad L_forget(theta + e) + alpha grad L_retain(theta)

so that a few steps of relearning, which is a small change, do not bring back what was removed. A step costs two passes
over the forget batch in place of one, and a copy of the trained weights for as long as it lasts.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import Combined, GivenGradient, Term
from services.unlearning.algorithms.parameters import Parameters, choice, number
from services.unlearning.algorithms.preference import NpoParameters, npo_term
from services.unlearning.algorithms.regularisers import retain_term


@dataclass(frozen=True, kw_only=True)
class SamNpoParameters(Parameters):
    """Hyper-parameters of SAM-NPO: the radius ``rho`` (L2, over all trained weights), and those of NPO."""

    rho: float = number(0.01, 0, 10)
    beta: float = number(0.1, 0, 100, above=True)
    length_norm: str = choice("none", "none", "token", "sqrt")
    regulariser: str = choice("gdr", "none", "gdr", "klr")
    gamma: float = number(1.0, 0, 1000)
    alpha: float = number(1.0, 0, 1000)


def sharpness_aware(term: Term, rho: float) -> Term:
    """Return a term whose value and gradient are those at the worst weights near the module's.

    Parameters
    ----------
    term
        Any term of a loss.
    rho
        How far away, as the L2 norm over all parameters that require gradients; 0 gives the term itself.
    """

    def worst(module: nn.Module, step: int) -> Tensor:
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        gradient = _gradient(term(module, step), weights)
        norm = torch.stack([g.norm() for g in gradient if g is not None]).norm()
        scale = rho / norm.clamp(min=torch.finfo(norm.dtype).tiny)
        with _moved(weights, [None if g is None else scale * g for g in gradient]):
            value = term(module, step)
            gradient = _gradient(value, weights)
        return GivenGradient.apply(value.detach(), len(weights), *weights, *gradient)  # type: ignore[no-any-return]

    return worst if rho else term


def build_npo_sam(parameters: SamNpoParameters, inputs: Inputs) -> Combined:
    """SAM-NPO; call it before the module is trained."""
    plain = npo_term(NpoParameters(beta=parameters.beta, length_norm=parameters.length_norm), inputs)
    retain = retain_term(parameters.regulariser, inputs)
    return Combined(sharpness_aware(plain, parameters.rho), parameters.gamma, retain, parameters.alpha)


def _gradient(value: Tensor, weights: Sequence[nn.Parameter]) -> list[Tensor | None]:
    return list(torch.autograd.grad(value, weights, allow_unused=True))


@contextlib.contextmanager
def _moved(weights: Sequence[nn.Parameter], steps: Sequence[Tensor | None]) -> Iterator[None]:
    """Add steps to weights for a while. The old values are kept and put back: to subtract would not return all bits."""
    kept = [weight.data for weight in weights]
    try:
        for weight, step in zip(weights, steps, strict=True):
            if step is not None:
                weight.data = weight.data + step
        yield
    finally:
        for weight, value in zip(weights, kept, strict=True):
            weight.data = value
