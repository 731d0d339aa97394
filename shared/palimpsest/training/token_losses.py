"""Negative log-likelihoods of tokens, without ever holding the logits of a whole batch.

The logits of 8 sequences of 256 tokens over 49 thousand words take 0.4 GB, their gradient as much again, and most of a
step's memory. So hidden states are computed once, and logits from a few hundred positions of them at a time; the
backward pass computes those again, but for the last few: it begins with them, and would make them at once.

What turns hidden states into logits is the module's own code, whatever it does: a head, tied or not, a scale
(granite, cohere), a soft cap (gemma), a transform. It runs with its inner model replaced by one that returns the chunk.
"""

import contextlib
import copy
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from palimpsest.training.batches import Batch

CHUNK = 256
"""Positions whose logits exist at one time."""

KEPT = 64 << 20
"""Bytes of logits of the last chunks that the backward pass finds as they were: about a chunk of 49 thousand words."""

_PROBE = 6
_TOLERANCE = 1e-3
"""Relative difference of logits, well above rounding in float32 and well below any scale or cap left out."""

_separable: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


def token_nll(module: nn.Module, batch: Batch, *, chunk: int = CHUNK) -> Tensor:
    """Negative log-likelihood of each counted token, given those before it.

    Parameters
    ----------
    module
        A causal LM of transformers.
    batch
        The sequences.
    chunk
        Positions whose logits exist at one time; more is a little faster.

    Returns
    -------
    Tensor
        float32 (float64 of a float64 module) [batch, tokens - 1] in nats, for ``batch.ids[:, 1:]``; 0 where a token
        does not count. It has a graph if gradients are enabled.
    """

    def nll(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return functional.cross_entropy(_wide(logits), batch.ids[rows, columns + 1], reduction="none")

    return at_positions(module, batch, nll, chunk=chunk)


def sequence_nll(module: nn.Module, batch: Batch, *, chunk: int = CHUNK) -> Tensor:
    """Negative log-likelihood of each sequence: the sum over its counted tokens, in nats, [batch]."""
    return token_nll(module, batch, chunk=chunk).sum(dim=1)


def counts(batch: Batch) -> Tensor:
    """Counted tokens of each sequence: int64 [batch]."""
    return batch.counted[:, 1:].sum(dim=1)


def at_positions(
    module: nn.Module,
    batch: Batch,
    function: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    chunk: int = CHUNK,
) -> Tensor:
    """Compute a number from the logits of every position that predicts a counted token, a chunk at a time.

    Parameters
    ----------
    module, batch, chunk
        As in :func:`token_nll`.
    function
        Takes logits [n, vocabulary] in the module's dtype, and the rows and columns [n] of the positions they are of:
        the logits at column t are for token t + 1. Returns [n], and holds no state: it runs again in the backward pass.

    Returns
    -------
    Tensor
        [batch, tokens - 1] in the dtype of the function's results; 0 at other positions.
    """
    rows, columns = batch.counted[:, 1:].nonzero(as_tuple=True)  # both (n,)
    if not is_separable(module, batch.ids.device):
        logits = module(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False).logits
        values = function(logits[rows, columns], rows, columns)  # (n,)
    else:
        base: Any = module.base_model
        output = base(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
        hidden = output.last_hidden_state[rows, columns]  # (n, hidden size)

        def part(states: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
            return function(_logits_of(module, output, states), rows, columns)

        parts = []
        kept = KEPT // (_vocabulary(module) * hidden.element_size())  # positions
        for first in range(0, max(1, len(rows)), chunk):
            piece = slice(first, first + chunk)
            arguments = (hidden[piece], rows[piece], columns[piece])
            if torch.is_grad_enabled() and len(rows) - first > kept:
                value = checkpoint(part, *arguments, use_reentrant=False, preserve_rng_state=False)
            else:
                value = part(*arguments)
            parts.append(value)
        values = torch.cat(parts)  # (n,)
    out = values.new_zeros(batch.ids.shape[0], batch.ids.shape[1] - 1)
    return out.index_put((rows, columns), values)


def frozen_logits(module: nn.Module, batch: Batch) -> Callable[[Tensor, Tensor], Tensor]:
    """Run a model over a batch once, and give its logits where they are asked for: a teacher or reference, in chunks.

    Parameters
    ----------
    module, batch
        As in :func:`token_nll`.

    Returns
    -------
    Callable
        Takes rows and columns [n] of positions, and returns logits [n, vocabulary] without a graph. It holds the hidden
        states of the batch. It may be called in the function that :func:`at_positions` takes.
    """
    with torch.no_grad():
        if not is_separable(module, batch.ids.device):
            logits = module(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False).logits
            return lambda rows, columns: logits[rows, columns]
        base: Any = module.base_model
        output = base(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        with torch.no_grad():
            return _logits_of(module, output, output.last_hidden_state[rows, columns])

    return at


def _vocabulary(module: Any) -> int:
    """Logits of a position, as far as the size of the model's embedding tells."""
    return module.get_input_embeddings().num_embeddings


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _logits_of(module: Any, output: Any, states: Tensor) -> Tensor:
    """Logits [n, vocabulary] of hidden states [n, hidden size], by the module's own code."""
    stood_in = copy.copy(output)
    stood_in["last_hidden_state"] = states[None]
    ids = torch.zeros(1, len(states), dtype=torch.int64, device=states.device)
    with _standing_in(module.base_model, stood_in):
        return module(input_ids=ids, use_cache=False).logits[0]


@contextlib.contextmanager
def _standing_in(base: nn.Module, output: Any) -> Iterator[None]:
    """Let a module return the given output, whatever it is called with."""
    own = vars(base).get("forward")  # where somebody else, such as accelerate, has put one
    base.forward = lambda *_args, **_kwargs: output
    try:
        yield
    finally:
        if own is None:
            del base.forward
        else:
            base.forward = own


def is_separable(module: Any, device: torch.device) -> bool:
    """Whether logits of positions come from their own hidden states by the module's own code; tried once a module."""
    found = _separable.get(module)
    if found is None:
        found = _separable[module] = _agrees(module, device)
    return found


@torch.no_grad()
def _agrees(module: Any, device: torch.device) -> bool:
    base = getattr(module, "base_model", module)
    if base is module:
        return False
    ids = (torch.arange(1, _PROBE + 1, device=device) % base.get_input_embeddings().num_embeddings)[None]
    expected = module(input_ids=ids, use_cache=False).logits[0].double()
    output = base(input_ids=ids, use_cache=False)
    states = getattr(output, "last_hidden_state", None)
    if states is None:
        return False
    got = (
        _logits_of(module, output, states[0].flip(0)).double().flip(0)
    )  # in another order: nothing may depend on it
    return bool((got - expected).norm() <= _TOLERANCE * expected.norm())
