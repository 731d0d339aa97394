"""What a receiver reports of one load, and the state that it changes."""

import asyncio
from collections.abc import Callable

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.kv.controller import Controller
from palimpsest.kv.plan import Load
from services.codec.loads.deliveries import Deliveries
from services.codec.loads.orders import Orders
from services.codec.loads.window import Window


class Reports:
    """The state of one load, and the reports that change it; chunks are numbered as in the context.

    Parameters
    ----------
    load
        The controller's view of chunks ``first`` and after.
    first
        Leading chunks that the receiver has already.
    window
        Most bytes on the way without a receipt; 0: the default.
    clock
        Returns seconds.
    """

    def __init__(self, load: Load, first: int, window: int, clock: Callable[[], float]) -> None:
        self.window = Window(window, load.bandwidth)
        self._load, self._first, self._clock = load, first, clock
        self._controller = Controller(load)
        self._orders, self._deliveries = Orders(load, self.window), Deliveries(load)
        self._changed = asyncio.Event()
        self._closed = False
        self._failure: BaseException | None = None
        self._start = clock()

    def received(self, size: int, busy: float) -> None:
        """Count bytes that have arrived since the load began, and the seconds spent receiving them."""
        measured = self.window.receipt(size, busy, self._now)
        if measured is not None:
            self._controller.received(measured)
        self._changed.set()

    def recomputing(self, chunk: int) -> None:
        """Note that the receiver recomputes a chunk of its own accord.

        Raises
        ------
        InvalidArgument
            KV_REPORT_INVALID: it is neither the first that was not sent nor ordered, nor one that was sent.
        """
        index = self._index(chunk, "recomputing")
        if index not in self._orders.recomputed:  # else the order is on its way
            level = self._deliveries.level(index)
            if level is None and index != self._controller.front:
                front = self._first + self._controller.front
                raise _malformed(
                    "recomputing", f"chunk {chunk} was not sent, and the next to recompute is {front}."
                )
            self._controller.taken(index, level, self._now)
            self._deliveries.cancel(index)
            self._orders.order(index)
        self._changed.set()

    def recomputed(self, chunk: int, seconds: float) -> None:
        """Note that the receiver has recomputed a chunk.

        Raises
        ------
        InvalidArgument
            KV_REPORT_INVALID: nobody has said that it would.
        """
        index = self._index(chunk, "recomputed")
        if index not in self._orders.recomputed:
            raise _malformed("recomputed", f"chunk {chunk} was not ordered; send recomputing first.")
        if self._orders.finish(index):
            self._controller.recomputed(index, seconds)
        self._changed.set()

    def accepted(self, chunk: int, seconds: float = 0.0) -> None:
        """Note that a chunk has arrived and was decoded, and how long decoding took; 0: not known.

        Raises
        ------
        InvalidArgument
            KV_REPORT_INVALID: it was not sent.
        """
        index = self._sent(chunk, "accepted")
        level = self._deliveries.level(index)
        if level is not None:
            self._controller.decoded(index, level, seconds)
        self._deliveries.accept(index)
        self._changed.set()

    def rejected(self, chunk: int) -> None:
        """Note that a chunk arrived damaged; it is sent again.

        Raises
        ------
        InvalidArgument
            KV_REPORT_INVALID: it was not sent.
        """
        self._deliveries.reject(self._sent(chunk, "rejected"))
        self._changed.set()

    def fail(self, error: BaseException) -> None:
        """End the load with an error: a report was malformed."""
        self._failure = error
        self._changed.set()

    def close(self) -> None:
        """Note that the receiver will report nothing more."""
        self._closed = True
        self._changed.set()

    @property
    def _now(self) -> float:
        """Seconds from the start of the load."""
        return self._clock() - self._start

    def _index(self, chunk: int, report: str) -> int:
        """The index in the load of a chunk that a report is about."""
        end = self._first + len(self._load.chunks)
        if not self._first <= chunk < end:
            raise _malformed(
                report, f"chunk {chunk} is not of this load, which has {self._first} to {end - 1}."
            )
        return chunk - self._first

    def _sent(self, chunk: int, report: str) -> int:
        index = self._index(chunk, report)
        if not self._deliveries.sent(index):
            raise _malformed(report, f"chunk {chunk} has not been sent.")
        return index


def _malformed(report: str, message: str) -> InvalidArgument:
    return InvalidArgument.field(Reason.KV_REPORT_INVALID, f"{report}.chunk", message)
