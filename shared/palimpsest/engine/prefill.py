"""Prefilling a text for keeps: its keys and values, handed over stretch by stretch."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import torch

from palimpsest.engine.costs import timed
from palimpsest.engine.tasks import Pieces, Refused
from palimpsest.errors import PalimpsestError
from palimpsest.lm.forward import SequenceInput
from palimpsest.lm.protocols import Model

AHEAD = 2
"""Stretches that the taker may have in hand while the next one is computed."""

Take = Callable[[int, torch.Tensor, torch.Tensor], "Future[Any] | None"]
"""Takes a finished stretch: the position of its first token, its keys and its values, each [layers, kv_heads, tokens,
head_dim] in the model's dtype and the taker's own. Called on the engine's thread, so it only hands over. A taker that
may fall behind returns a future and completes it when it is through with the stretch."""


def prefill_pieces(
    model: Model,
    ids: Sequence[int],
    chunk_tokens: int,
    take: Take,
    rows: Callable[[], int],
    count: Callable[[int, int, float], None],
) -> Pieces[None]:
    """Prefill a text into one cache, giving control back after each piece.

    Parameters
    ----------
    model
        In use by the calling thread alone.
    ids
        The text's tokens.
    chunk_tokens
        Tokens of a stretch; the last one may be shorter.
    take
        Is given every finished stretch, in order.
    rows
        Says how many tokens the next piece may have.
    count
        Is told where each piece began, how many tokens it had, and how many seconds it took.

    Yields
    ------
    Future or None
        A future of the taker's where it is two stretches behind.

    Raises
    ------
    Refused
        The taker failed, or gave its future up.
    FailedPrecondition
        The model's layers do not all keep keys and values.
    """
    cache = model.new_cache()
    behind: deque[Future[Any]] = deque()
    try:
        for start in range(0, len(ids), chunk_tokens):
            stop = min(start + chunk_tokens, len(ids))
            while cache.length < stop:
                piece = ids[cache.length : min(cache.length + rows(), len(ids))]
                first = cache.length
                _, seconds = timed(model, [SequenceInput(cache, piece, logits="none")])
                count(first, len(piece), seconds)
                yield None
            while behind and (len(behind) >= AHEAD or behind[0].done()):
                yield from _through(behind.popleft())
            keys, values = cache.export(start, stop)
            taken = _guard(take, start, keys, values)
            del keys, values  # the taker's own from here on
            if taken is not None:
                behind.append(taken)
        for taken in behind:
            yield from _through(taken)
    finally:
        cache.release()


def _through(taken: "Future[Any]") -> Pieces[None]:
    """Wait until the taker is through with a stretch."""
    if not taken.done():
        yield taken
    _guard(taken.result)


def _guard(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call what is not the engine's; its errors are its owner's business."""
    try:
        return call(*arguments)
    except PalimpsestError:
        raise
    except Exception as error:
        raise Refused(error) from error
