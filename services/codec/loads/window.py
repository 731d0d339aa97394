"""Bounds how much of a load is on its way, and measures the link from the receipts."""

from collections import deque

from palimpsest.kv.plan import Receipt

WINDOW = 1 << 20
"""Most bytes on the way without a receipt, unless the receiver asks for another window."""
HORIZON = 0.25
"""Seconds of the measured bandwidth that may be on the way, beyond what the link's own delay takes: what is ordered or
given up now takes effect behind them."""
FIRST_WINDOW = 16 << 10
"""Bytes that may be on the way before the link has been measured."""
LARGEST_FRAME, SMALLEST_FRAME = 256 << 10, 2 << 10
SHORTEST_MEASURE = 0.02
"""Least seconds of receiving that a measurement of the bandwidth covers, unless everything sent has arrived."""


class Window:
    """Bytes sent and acknowledged. Bounding what lies between makes the bandwidth that of the receiver.

    Parameters
    ----------
    size
        Most bytes on the way; 0: ``WINDOW``. On a slow link it is less: see ``HORIZON``.
    bandwidth
        Bytes a second to expect; 0: unknown.

    Attributes
    ----------
    sent, acknowledged
        Bytes of chunks, since the load began.
    delay
        Least seconds between sending a frame and its receipt; infinite before the first.
    """

    def __init__(self, size: int, bandwidth: float = 0.0) -> None:
        self._size = size or WINDOW
        self._limit = int(min(self._size, max(FIRST_WINDOW, bandwidth * HORIZON)))
        self.sent = self.acknowledged = 0
        self.delay = float("inf")
        self._busy = self._bandwidth = 0.0
        self._measured = (0, 0.0)
        self._frames: deque[tuple[int, float]] = deque()

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        return self._limit - self.on_way

    @property
    def on_way(self) -> int:
        """Bytes that were sent and not acknowledged."""
        return self.sent - self.acknowledged

    @property
    def frame(self) -> int:
        """Bytes of the next frame. The first ones are small and soon measure a slow link; then they grow."""
        largest = min(self._limit, LARGEST_FRAME, max(SMALLEST_FRAME, self._limit // 8))
        return min(largest, max(SMALLEST_FRAME, self.sent))

    @property
    def measured(self) -> bool:
        """Whether the link has been measured yet."""
        return self._measured[0] > 0

    @property
    def lead(self) -> float:
        """Seconds that something sent now takes to arrive; 0 before the link has been measured."""
        return self.delay + self.on_way / self._bandwidth if self.measured and self._bandwidth else 0.0

    def send(self, size: int, now: float) -> None:
        """Count a frame that is sent at ``now`` seconds."""
        self.sent += size
        self._frames.append((self.sent, now))

    def receipt(self, received: int, busy: float, now: float) -> Receipt | None:
        """Count a receipt; returns a measurement of the link once enough has arrived for one.

        Parameters
        ----------
        received
            Bytes received since the load began.
        busy
            Seconds the receiver has spent receiving them.
        now
            When the receipt came, in seconds.
        """
        # Never more than was sent, never less than before: a receiver cannot open its own window wider.
        self.acknowledged = max(self.acknowledged, min(received, self.sent))
        while self._frames and self._frames[0][0] <= self.acknowledged:
            self.delay = min(self.delay, now - self._frames.popleft()[1])
        self._busy = max(self._busy, busy)
        measured = self._measure()
        if measured is not None:
            self._bandwidth = measured.size / measured.seconds
        if self._bandwidth and self.delay < float("inf"):
            # One burst may look faster than the link is, so the window grows step by step.
            target = min(self._bandwidth * (HORIZON + self.delay), 2 * self._limit)
            self._limit = int(min(self._size, max(2 * SMALLEST_FRAME, target)))
        return measured

    def _measure(self) -> Receipt | None:
        size, seconds = self.acknowledged - self._measured[0], self._busy - self._measured[1]
        everything = self.acknowledged == self.sent and seconds > 0
        if size <= 0 or not (seconds >= SHORTEST_MEASURE or everything):
            return None
        self._measured = (self.acknowledged, self._busy)
        return Receipt(size, seconds)
