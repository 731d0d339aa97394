"""Gradient ascent on the forget set: GA, and WGA and SatImp, which weight its tokens.

With ``nll_t`` the negative log-likelihood of a counted token and ``p_t = exp(-nll_t)`` (GA: MUSE, arXiv 2407.06460;
WGA: Wang et al. 2025, arXiv 2502.19301; SatImp: Yang et al. 2025, arXiv 2505.11953)::

    GA      -mean_t nll_t
    WGA     -mean_t p_t^beta nll_t
    SatImp  -mean_t p_t^beta1 (1 - p_t)^beta2 nll_t

The weights take no gradient. Means are over all counted tokens of a batch, whatever sequence they are in.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from palimpsest.training.token_losses import token_nll
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import Combined, mean_nll
from services.unlearning.algorithms.parameters import Parameters, choice, number, switch
from services.unlearning.algorithms.regularisers import retain_term


@dataclass(frozen=True, kw_only=True)
class AscentParameters(Parameters):
    """Hyper-parameters of GA.

    Attributes
    ----------
    regulariser
        Retain term: "none", "gdr" or "klr".
    gamma, alpha
        Weights of the forget term and the retain term.
    legacy_muse
        KLR as MUSE's released code has it.
    """

    regulariser: str = choice("none", "none", "gdr", "klr")
    gamma: float = number(1.0, 0, 1000)
    alpha: float = number(1.0, 0, 1000)
    legacy_muse: bool = switch(False)


@dataclass(frozen=True, kw_only=True)
class WgaParameters(Parameters):
    """Hyper-parameters of WGA: the power ``beta`` of the probability, and those of GA."""

    beta: float = number(1.0, 0, 100)
    regulariser: str = choice("gdr", "none", "gdr", "klr")
    gamma: float = number(1.0, 0, 1000)
    alpha: float = number(1.0, 0, 1000)


@dataclass(frozen=True, kw_only=True)
class SatImpParameters(Parameters):
    """Hyper-parameters of SatImp: the powers of saturation (``beta1``) and importance (``beta2``), and those of GA."""

    beta1: float = number(5.0, 0, 100)
    beta2: float = number(1.0, 0, 100)
    regulariser: str = choice("gdr", "none", "gdr", "klr")
    gamma: float = number(0.1, 0, 1000)
    alpha: float = number(1.0, 0, 1000)


def weighted_ascent(nll: Tensor, counted: Tensor, saturation: float, importance: float = 0.0) -> Tensor:
    """Gradient ascent with a weight for each token.

    Parameters
    ----------
    nll
        [...] in nats, 0 where a token does not count.
    counted
        bool [...]: which tokens count.
    saturation, importance
        Powers of p and of 1 - p in the weight.

    Returns
    -------
    Tensor
        Scalar.
    """
    fixed = nll.detach()
    # 1 - p by expm1: of a token that is nearly certain, nothing would be left of the difference.
    weights = (-saturation * fixed).exp() * (-torch.expm1(-fixed)) ** importance
    return -(weights * nll * counted).sum() / counted.sum().clamp(min=1)


def build_ascent(parameters: AscentParameters, inputs: Inputs) -> Combined:
    """GA, GA+GDR or GA+KLR."""
    retain = retain_term(parameters.regulariser, inputs, legacy=parameters.legacy_muse)
    return Combined(
        lambda module, step: -mean_nll(module, inputs.forget_batch(step)),
        parameters.gamma,
        retain,
        parameters.alpha,
    )


def build_wga(parameters: WgaParameters, inputs: Inputs) -> Combined:
    """WGA."""
    return _weighted(parameters, inputs, parameters.beta, 0.0)


def build_satimp(parameters: SatImpParameters, inputs: Inputs) -> Combined:
    """SatImp."""
    return _weighted(parameters, inputs, parameters.beta1, parameters.beta2)


def _weighted(
    parameters: WgaParameters | SatImpParameters, inputs: Inputs, saturation: float, importance: float
) -> Combined:
    def forget(module: nn.Module, step: int) -> Tensor:
        batch = inputs.forget_batch(step)
        return weighted_ascent(token_nll(module, batch), batch.counted[:, 1:], saturation, importance)

    retain = retain_term(parameters.regulariser, inputs)
    return Combined(forget, parameters.gamma, retain, parameters.alpha)
