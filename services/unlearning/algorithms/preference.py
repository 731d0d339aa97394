"""Preference losses: NPO and SimNPO, which dislike the forget set; DPO and IDK, which like other answers better.

With ``nll`` the negative log-likelihood of a sequence, ``ref`` that under the model before the request, ``len`` its
counted tokens, and s the logistic function (NPO: Zhang et al. 2024, arXiv 2404.05868, equation 3; SimNPO: Fan et al.
2024, arXiv 2410.07163; DPO: Rafailov et al. 2023, equation 7; IDK: TOFU, Maini et al. 2024, arXiv 2401.06121)::

    NPO     -2/beta mean_x log s(beta (nll - ref) / n)                 n = 1, len or sqrt(len)
    SimNPO  -2/beta mean_x log s(beta (nll / len - delta))
    DPO     -2/beta mean_x log s(beta ((ref_w - nll_w) - (ref_l - nll_l)))    w: another answer, l: the one to forget
    IDK     mean_t nll_t of the other answer

NPO tends to GA as beta goes to 0. Its gradient is GA's, each sequence times ``2 p^beta / (p^beta + p_ref^beta)``: 1 at
the reference, 0 once it is forgotten. Long sequences get there within a fraction of a nat a token; ``length_norm`` is
the remedy.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from palimpsest.training.token_losses import counts, sequence_nll
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import Combined, Term, mean_nll
from services.unlearning.algorithms.parameters import Parameters, choice, number, switch
from services.unlearning.algorithms.reference import reference_nll, whole_logits, whole_reference_logits
from services.unlearning.algorithms.regularisers import retain_term


@dataclass(frozen=True, kw_only=True)
class NpoParameters(Parameters):
    """Hyper-parameters of NPO.

    Attributes
    ----------
    beta
        Inverse temperature; small: close to GA.
    length_norm
        What the log-ratio of a sequence is divided by: 1 ("none", the paper's), its tokens or their square root.
    regulariser, gamma, alpha
        The retain term, and the weights of the forget term and the retain term.
    legacy_muse
        NPO and KLR as MUSE's released code has them, on raw logits; needs a frozen model.
    """

    beta: float = number(0.1, 0, 100, above=True)
    length_norm: str = choice("none", "none", "token", "sqrt")
    regulariser: str = choice("none", "none", "gdr", "klr")
    gamma: float = number(1.0, 0, 1000)
    alpha: float = number(1.0, 0, 1000)
    legacy_muse: bool = switch(False)

    @property
    def needs(self) -> frozenset[str]:
        """Data that these hyper-parameters ask for."""
        return super().needs | ({"reference"} if self.legacy_muse else set())


@dataclass(frozen=True, kw_only=True)
class SimNpoParameters(Parameters):
    """Hyper-parameters of SimNPO: ``beta``, the margin ``delta`` in nats a token, and those of the retain term."""

    beta: float = number(4.5, 0, 100, above=True)
    delta: float = number(0.0, -100, 100)
    regulariser: str = choice("gdr", "none", "gdr", "klr")
    gamma: float = number(0.125, 0, 1000)
    alpha: float = number(1.0, 0, 1000)


@dataclass(frozen=True, kw_only=True)
class DpoParameters(Parameters):
    """Hyper-parameters of DPO: ``beta``, and those of the retain term."""

    beta: float = number(0.1, 0, 100, above=True)
    regulariser: str = choice("gdr", "none", "gdr", "klr")
    gamma: float = number(1.0, 0, 1000)
    alpha: float = number(1.0, 0, 1000)


@dataclass(frozen=True, kw_only=True)
class IdkParameters(Parameters):
    """Hyper-parameters of IDK: those of the retain term."""

    regulariser: str = choice("gdr", "none", "gdr", "klr")
    gamma: float = number(1.0, 0, 1000)
    alpha: float = number(1.0, 0, 1000)


def npo(nll: Tensor, reference: Tensor, tokens: Tensor, beta: float, length_norm: str = "none") -> Tensor:
    """Negative preference optimisation.

    Parameters
    ----------
    nll, reference
        [batch] in nats, of the model and of the reference.
    tokens
        [batch] counted tokens.
    beta, length_norm
        As in :class:`NpoParameters`.

    Returns
    -------
    Tensor
        Scalar; ``2/beta log 2`` where the model is the reference.
    """
    ratio = (nll - reference) / _length(tokens, length_norm).to(nll.dtype)
    return -2 / beta * functional.logsigmoid(beta * ratio).mean()


def simnpo(nll: Tensor, tokens: Tensor, beta: float, delta: float = 0.0) -> Tensor:
    """SimNPO of sequences: nll [batch] in nats, tokens [batch]; a scalar. It needs no reference."""
    return -2 / beta * functional.logsigmoid(beta * (nll / tokens.clamp(min=1) - delta)).mean()


def dpo(wanted: Tensor, wanted_ref: Tensor, unwanted: Tensor, unwanted_ref: Tensor, beta: float) -> Tensor:
    """DPO between two answers to each prompt: four [batch] of nats; a scalar, ``2/beta log 2`` at the reference."""
    margin = (wanted_ref - wanted) - (unwanted_ref - unwanted)
    return -2 / beta * functional.logsigmoid(beta * margin).mean()


def legacy_npo(logits: Tensor, reference: Tensor, attention: Tensor, beta: float) -> Tensor:
    """What MUSE's released code computes in place of NPO, for parity: no likelihoods, but raw logits of every word.

    ``-2/beta mean_(b,t,v) log s(beta (z_ref - z))``, over every token of the sequences, the last one included. Padding
    is left out, which the released code counts.

    Parameters
    ----------
    logits, reference
        [batch, tokens, vocabulary].
    attention
        [batch, tokens]: 1 where a token is.
    beta
        As in NPO.
    """
    terms = functional.logsigmoid(beta * (reference - logits)).mean(dim=-1) * attention  # (batch, tokens)
    return -2 / beta * terms.sum() / attention.sum()


def build_npo(parameters: NpoParameters, inputs: Inputs) -> Combined:
    """NPO, NPO+GDR or NPO+KLR; call it before the module is trained."""
    retain = retain_term(parameters.regulariser, inputs, legacy=parameters.legacy_muse)
    return Combined(npo_term(parameters, inputs), parameters.gamma, retain, parameters.alpha)


def npo_term(parameters: NpoParameters, inputs: Inputs) -> Term:
    """Return the forget term of NPO. Its reference is computed now, and is all that is kept of the model."""
    beta, norm = parameters.beta, parameters.length_norm
    if parameters.legacy_muse:

        def legacy(module: nn.Module, step: int) -> Tensor:
            batch = inputs.forget_batch(step)
            reference = whole_reference_logits(module, inputs.reference, batch)
            return legacy_npo(whole_logits(module, batch), reference, batch.attention, beta)

        return legacy
    reference = _reference(inputs)

    def forget(module: nn.Module, step: int) -> Tensor:
        batch = inputs.forget_batch(step)
        return npo(sequence_nll(module, batch), reference[batch.items], counts(batch), beta, norm)

    return forget


def build_simnpo(parameters: SimNpoParameters, inputs: Inputs) -> Combined:
    """SimNPO."""

    def forget(module: nn.Module, step: int) -> Tensor:
        batch = inputs.forget_batch(step)
        return simnpo(sequence_nll(module, batch), counts(batch), parameters.beta, parameters.delta)

    retain = retain_term(parameters.regulariser, inputs)
    return Combined(forget, parameters.gamma, retain, parameters.alpha)


def build_dpo(parameters: DpoParameters, inputs: Inputs) -> Combined:
    """DPO of alternatives over the answers to forget; call it before the module is trained."""
    unwanted_ref = _reference(inputs)
    # All alternatives in one row; those of example i begin at first[i].
    flat = [other for others in inputs.alternatives for other in others]
    wanted_ref = reference_nll(inputs.reference or inputs.module, flat, inputs.pad, inputs.batch)
    sizes = torch.tensor([len(others) for others in inputs.alternatives])
    first = (sizes.cumsum(0) - sizes).to(inputs.device)

    def forget(module: nn.Module, step: int) -> Tensor:
        batch, (other, chosen) = inputs.forget_batch(step), inputs.alternative_batch(step)
        unwanted, wanted = sequence_nll(module, batch), sequence_nll(module, other)
        reference = wanted_ref[first[batch.items] + chosen]
        return dpo(wanted, reference, unwanted, unwanted_ref[batch.items], parameters.beta)

    retain = retain_term(parameters.regulariser, inputs)
    return Combined(forget, parameters.gamma, retain, parameters.alpha)


def build_idk(parameters: IdkParameters, inputs: Inputs) -> Combined:
    """Training on the alternatives (refusals) in place of the answers to forget."""
    return Combined(
        lambda module, step: mean_nll(module, inputs.alternative_batch(step)[0]),
        parameters.gamma,
        retain_term(parameters.regulariser, inputs),
        parameters.alpha,
    )


def _reference(inputs: Inputs) -> Tensor:
    return reference_nll(inputs.reference or inputs.module, inputs.forget, inputs.pad, inputs.batch)


def _length(tokens: Tensor, norm: str) -> Tensor:
    tokens = tokens.clamp(min=1)
    return {"none": torch.ones_like(tokens), "token": tokens, "sqrt": tokens.double().sqrt()}[norm]
