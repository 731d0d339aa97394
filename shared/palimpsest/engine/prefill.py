"""Prefilling a text whose keys and values are wanted: they are handed over chunk by chunk."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import torch

from palimpsest.engine.costs import timed
from palimpsest.engine.tasks import CallerError, TaskSteps
from palimpsest.errors import PalimpsestError
from palimpsest.lm.forward import SequenceInput
from palimpsest.lm.protocols import Model

AHEAD = 2
"""Chunks that the taker may hold while the next one is computed."""

Take = Callable[[int, torch.Tensor, torch.Tensor], "Future[Any] | None"]
"""Takes a finished chunk: the position of its first token, its keys and its values, each [layers, kv_heads, tokens,
head_dim] in the model's dtype, which the taker may keep. It runs on the engine's thread, so it only hands over. A taker
that may fall behind returns a future and completes it when it has finished with the chunk."""


def prefill_steps(
    model: Model,
    ids: Sequence[int],
    chunk_tokens: int,
    take: Take,
    rows: Callable[[], int],
    observe: Callable[[int, int, float], None],
) -> TaskSteps[None]:
    """Prefill a text into one cache, giving control back after each step.

    Parameters
    ----------
    model
        In use by the calling thread alone.
    ids
        The text's tokens.
    chunk_tokens
        Tokens of a chunk; the last one may be shorter.
    take
        Called with every finished chunk, in order.
    rows
        Returns how many tokens the next step may have.
    observe
        Called with the position where each step began, its tokens, and its seconds.

    Yields
    ------
    Future or None
        A future of the taker's where it is two chunks behind.

    Raises
    ------
    CallerError
        The taker failed, or cancelled its future.
    FailedPrecondition
        The model's layers do not all keep keys and values.
    """
    cache = model.new_cache()
    behind: deque[Future[Any]] = deque()
    try:
        for start in range(0, len(ids), chunk_tokens):
            stop = min(start + chunk_tokens, len(ids))
            while cache.length < stop:
                chunk = ids[cache.length : min(cache.length + rows(), len(ids))]
                first = cache.length
                _, seconds = timed(model, [SequenceInput(cache, chunk, logits="none")])
                observe(first, len(chunk), seconds)
                yield None
            while behind and (len(behind) >= AHEAD or behind[0].done()):
                yield from _settle(behind.popleft())
            keys, values = cache.export(start, stop)
            taken = _guard(take, start, keys, values)
            del keys, values  # the taker's own from here on
            if taken is not None:
                behind.append(taken)
        for taken in behind:
            yield from _settle(taken)
    finally:
        cache.release()


def _settle(taken: "Future[Any]") -> TaskSteps[None]:
    """Wait until the taker has finished with a chunk."""
    if not taken.done():
        yield taken
    _guard(taken.result)


def _guard(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call the taker's code; its errors fail its task alone."""
    try:
        return call(*arguments)
    except PalimpsestError:
        raise
    except Exception as error:
        raise CallerError(error) from error
