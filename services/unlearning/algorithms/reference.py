"""What the model is compared with: negative log-likelihoods kept from before the run, or a frozen model.

NPO and DPO need one number for each sequence, which never changes, so it is computed once and no second model is kept.
KLR and UNDIAL need whole distributions and hold a frozen model; where only an adapter is trained, that is the model
itself with the adapter off.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.training.adapters import is_attached
from palimpsest.training.batches import Batch, Example, collate
from palimpsest.training.token_losses import frozen_logits, sequence_nll

M = TypeVar("M", bound=nn.Module)


def frozen_copy(module: M) -> M:
    """Return a copy of a model that takes no gradients: a reference for KLR, UNDIAL, or the teacher of UNDO."""
    return copy.deepcopy(module).eval().requires_grad_(False)


@torch.no_grad()
def reference_nll(module: nn.Module, examples: Sequence[Example], pad: int, batch: int = 8) -> Tensor:
    """Negative log-likelihood of every example of a set under a model: [examples], in nats, without a graph."""
    device = next(module.parameters()).device
    parts = []
    for first in range(0, len(examples), batch):
        indices = range(first, min(first + batch, len(examples)))
        parts.append(sequence_nll(module, collate(examples, indices, pad, device)))
    return torch.cat(parts)


def reference_logits(
    module: nn.Module, reference: nn.Module | None, batch: Batch
) -> Callable[[Tensor, Tensor], Tensor]:
    """Run the reference over a batch once; returns a function from rows and columns [n] to logits [n, vocabulary].

    Parameters
    ----------
    module
        The model that is trained.
    reference
        A frozen one; None: the model with its adapter off.
    batch
        Sequences.

    Raises
    ------
    FailedPrecondition
        ADAPTER_MISSING: there is neither a reference nor an adapter.
    """
    with _as_before(module, reference) as frozen:
        return frozen_logits(frozen, batch)


def whole_logits(module: Any, batch: Batch) -> Tensor:
    """Logits of every token, all at once: [batch, tokens, vocabulary]."""
    return module(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False).logits


@torch.no_grad()
def whole_reference_logits(module: nn.Module, reference: nn.Module | None, batch: Batch) -> Tensor:
    """As :func:`whole_logits`, of the reference of :func:`reference_logits`."""
    with _as_before(module, reference) as frozen:
        return whole_logits(frozen, batch)


@contextlib.contextmanager
def _as_before(module: nn.Module, reference: nn.Module | None) -> Iterator[nn.Module]:
    if reference is not None:
        yield reference
        return
    if not is_attached(module):
        message = "There is no frozen model to compare with, and no adapter to turn off. Give a reference."
        raise FailedPrecondition(Reason.ADAPTER_MISSING, message)
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]
    required = [(weight, weight.requires_grad) for weight in module.parameters()]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield module
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for weight, wanted in required:  # peft would have every adapter trained from here on
            weight.requires_grad_(wanted)
