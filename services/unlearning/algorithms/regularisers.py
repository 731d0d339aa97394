"""Retain regularisers: gradient descent (GDR) and a divergence from the reference (KLR) on data to be kept.

GDR is ``CE_R``, the mean cross-entropy of the retain batch. KLR is ``mean_t KL(p_ref(. | x_<t) || p(. | x_<t))`` over
its counted tokens and the whole vocabulary (MUSE: Shi et al. 2024, arXiv 2407.06460).
"""

from torch import Tensor, nn
from torch.nn import functional

from palimpsest.training.batches import Batch
from palimpsest.training.token_losses import at_positions, counts
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import Term, mean_nll
from services.unlearning.algorithms.reference import reference_logits, whole_logits, whole_reference_logits


def divergence(module: nn.Module, reference: nn.Module | None, batch: Batch) -> Tensor:
    """KL divergence of the model's next-token distributions from the reference's, in nats.

    Parameters
    ----------
    module, reference
        The model, and the frozen one; None: the model with its adapter off.
    batch
        Sequences.

    Returns
    -------
    Tensor
        Scalar: the mean over counted tokens. Logits of the whole vocabulary exist for a chunk of tokens at a time.
    """
    theirs = reference_logits(module, reference, batch)

    def position(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ours = functional.log_softmax(logits, dim=-1)  # (n, vocabulary)
        target = functional.log_softmax(theirs(rows, columns), dim=-1)
        return (target.exp() * (target - ours)).sum(dim=-1)

    return at_positions(module, batch, position).sum() / counts(batch).sum().clamp(min=1)


def legacy_divergence(module: nn.Module, reference: nn.Module | None, batch: Batch) -> Tensor:
    """What MUSE's released code computes in place of KLR, for parity: no divergence, and not bounded below.

    ``1/B sum_(b,t,v) exp(z_ref) (z_ref - z)`` with raw logits z over every token of the batch's B sequences, the last
    one included; padding is left out, which the released code counts.
    """
    target = whole_reference_logits(module, reference, batch)  # (b, t, v)
    ours = whole_logits(module, batch)
    terms = (target.exp() * (target - ours)).sum(dim=-1) * batch.attention
    return terms.sum() / len(batch.ids)


def retain_term(regulariser: str, inputs: Inputs, *, legacy: bool = False) -> Term | None:
    """Return the retain term of an algorithm.

    Parameters
    ----------
    regulariser
        "none", "gdr" or "klr".
    inputs
        The data.
    legacy
        KLR as in MUSE's released code.
    """
    if regulariser == "gdr":
        return lambda module, step: mean_nll(module, inputs.retain_batch(step))
    if regulariser == "klr":
        kl, reference = (legacy_divergence if legacy else divergence), inputs.reference
        return lambda module, step: kl(module, reference, inputs.retain_batch(step))
    return None
