"""What the model is compared with: negative log-likelihoods kept from before the run, or a frozen model.

NPO and DPO need one number for each sequence, which never changes, so it is computed once and no second model is kept.
KLR and UNDIAL need whole distributions and hold a frozen model.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

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


def reference_logits(reference: nn.Module, batch: Batch) -> Callable[[Tensor, Tensor], Tensor]:
    """Run a frozen model over a batch once; returns a function from rows and columns [n] to logits [n, vocabulary]."""
    return frozen_logits(reference, batch)


def whole_logits(module: Any, batch: Batch, *, grad: bool = True) -> Tensor:
    """Logits of every token: [batch, tokens, vocabulary], all at once."""
    with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
        return module(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False).logits
