"""From a load's events to one KV cache: joins the chunks that arrive, and recomputes others on its own thread."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from palimpsest.client.loading import (
    RECOMPUTE,
    ChunkLoaded,
    Ended,
    Event,
    LoadedContext,
    Opened,
    RecomputeChunk,
)
from palimpsest.errors import DataLoss, Reason

if TYPE_CHECKING:
    import numpy as np

    from palimpsest.kv import KeyValues

Recompute = Callable[["np.ndarray", "KeyValues | None", "np.ndarray"], "KeyValues"]
"""Prefills a chunk, or several in a row at once: given the ids before them, their keys and values (None at the start)
and their own ids."""


class CacheAssembler:
    """Assembles the chunks of one load into a cache.

    Parameters
    ----------
    recompute
        Prefills the chunks that are ordered next; called on a separate thread, with the keys and values of all tokens
        before them. Chunks in a row are one call, for one long prefill is cheaper than several short ones.
    recomputed
        Called with each recomputed chunk's index and the seconds it took.
    fail
        Called with the exception that ``recompute`` raised.
    """

    def __init__(
        self,
        recompute: Recompute | None,
        recomputed: Callable[[int, float], object],
        fail: Callable[[BaseException], object],
    ) -> None:
        self._recompute, self._recomputed, self._fail = recompute, recomputed, fail
        self._began = time.monotonic()
        self._changed = threading.Condition()
        self._parts: dict[int, KeyValues] = {}
        self._came: dict[int, tuple[str, int]] = {}
        self._orders: deque[RecomputeChunk] = deque()
        self._opened: Opened | None = None
        self._ended: Ended | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def take(self, event: Event) -> None:
        """Process an event of the load."""
        with self._changed:
            if isinstance(event, Opened):
                self._opened = event
            elif isinstance(event, ChunkLoaded):
                self._parts[event.index] = event.kv
                self._came[event.index] = event.level, event.size_bytes
            elif isinstance(event, RecomputeChunk):
                self._order(event)
            elif isinstance(event, Ended):
                self._ended = event
            self._changed.notify()

    def close(self) -> None:
        """Stop recomputing; the thread ends after the chunk it is at."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def finish(self) -> LoadedContext:
        """Wait for the chunks that are still being recomputed, and join all of them.

        Raises
        ------
        DataLoss
            A chunk is missing.
        """
        from palimpsest.kv import KeyValues

        with self._changed:
            self._changed.wait_for(lambda: self._complete() or not self._orders)
            if self._opened is None or self._ended is None or not self._complete():
                raise DataLoss(
                    Reason.KV_DAMAGED, "The load ended without all chunks; load the context again."
                )
        order = sorted(self._parts)
        kv = KeyValues.join([self._parts.pop(index) for index in order])
        return LoadedContext(
            self._opened.context,
            self._opened.token_ids,
            kv,
            tuple(self._came[index] for index in order),
            time.monotonic() - self._began,
            self._ended.loss,
            self._ended.over_budget,
        )

    def _complete(self) -> bool:
        wanted = len(self._opened.token_ids) if self._opened else -1
        return wanted == sum(part.tokens for part in self._parts.values())

    def _order(self, event: RecomputeChunk) -> None:
        if self._recompute is None:
            raise DataLoss(
                Reason.KV_DAMAGED,
                f"Chunk {event.index} cannot be sent intact at any level, and this receiver cannot recompute it. Pass "
                "recompute=, or create the context again.",
                metadata={"chunk": event.index},
            )
        self._orders.append(event)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="palimpsest-recompute", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self._next())
                    orders = self._next()
                    if self._closed:
                        return
                    before = [self._parts[index] for index in range(orders[0].index)]
                self._run(orders, before)
        except BaseException as error:
            self._fail(error)
            with self._changed:
                self._orders.clear()
                self._changed.notify()

    def _next(self) -> list[RecomputeChunk]:
        """Return the orders in a row that begin where everything before has arrived; empty: there is none."""
        orders = {order.index: order for order in self._orders}
        first = next((i for i in sorted(orders) if all(before in self._parts for before in range(i))), None)
        return [] if first is None else list(_row(orders, first))

    def _run(self, orders: list[RecomputeChunk], before: "list[KeyValues]") -> None:
        from palimpsest.kv import KeyValues
        from palimpsest.kv.layout import DTYPES

        assert self._opened is not None
        assert self._recompute is not None
        began = time.monotonic()
        start = sum(part.tokens for part in before)
        end = start + sum(len(order.ids) for order in orders)
        ids = self._opened.token_ids[:end]
        made: Any = self._recompute(ids[:start], KeyValues.join(before) if before else None, ids[start:])
        dtype = DTYPES[self._opened.context.shape.dtype]
        kv = KeyValues(made.keys.to(dtype), made.values.to(dtype), start)
        if kv.tokens != end - start:
            raise ValueError(f"recompute() returned {kv.tokens} tokens for {end - start} ids")
        with self._changed:
            at = 0
            for order in orders:
                self._orders.remove(order)
                self._parts[order.index] = kv[at : at + len(order.ids)]
                self._came[order.index] = RECOMPUTE, 0
                at += len(order.ids)
            self._changed.notify()
        seconds = time.monotonic() - began
        for order in orders:
            self._recomputed(order.index, seconds * len(order.ids) / (end - start))


def _row(orders: dict[int, RecomputeChunk], first: int) -> Iterator[RecomputeChunk]:
    """Yield the orders from ``first`` on, up to the first chunk that was not ordered."""
    while first in orders:
        yield orders[first]
        first += 1
