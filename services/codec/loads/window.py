"""Bounds how much of a load is on its way, and measures the link from the receipts."""

from collections import deque

from palimpsest.kv.plan import Receipt

WINDOW = 1 << 20
"""Most bytes on the way without a receipt, unless the receiver asks for another window."""
HORIZON = 0.25
"""Seconds of the measured bandwidth that may be on the way, beyond what the link's own delay takes: what is ordered or
given up now takes effect behind them."""
FIRST_WINDOW = 16 << 10
"""Bytes that may be on the way before the link has been measured: on a slow one all else waits behind them."""
LARGEST_FRAME, SMALLEST_FRAME = 256 << 10, 2 << 10
QUEUED = 2.0
"""A frame that takes this many times an empty link's delay has waited for others: the link is as slow as it looks."""
BURST = 6
"""Frames that are enough to measure a link by how fast one comes after the other."""
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
    measured
        Whether the link has been measured yet.
    certain
        Whether a measurement has lasted long enough to tell a slow link from a receiver that has only begun.
    """

    def __init__(self, size: int, bandwidth: float = 0.0) -> None:
        self._size = size or WINDOW
        self._limit = int(min(self._size, max(FIRST_WINDOW, bandwidth * HORIZON)))
        self.sent = self.acknowledged = 0
        self.delay = float("inf")
        self.measured = self.certain = False
        self._busy = self._bandwidth = 0.0
        self._newest, self._bounded = 0.0, False
        self._counted = (0, 0.0)
        self._steps: list[Receipt] = []
        self._frames: deque[tuple[int, float, bool]] = deque()

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
    def lead(self) -> float:
        """Seconds that something sent now takes to arrive; 0 before the link has been measured."""
        return self.delay + self.on_way / self._bandwidth if self.measured else 0.0

    def send(self, size: int, now: float) -> None:
        """Count a frame that is sent at ``now`` seconds."""
        self.sent += size
        self._frames.append((self.sent, now, self._limit < self._size))

    def receipt(self, received: int, busy: float, now: float) -> Receipt | None:
        """Count a receipt; returns a measurement of the link once enough has arrived for one.

        One of 0 seconds says how much has arrived, and nothing of the link.

        Parameters
        ----------
        received
            Bytes received since the load began.
        busy
            Seconds the receiver has spent receiving them.
        now
            When the receipt came, in seconds.
        """
        before = self.acknowledged, self._busy
        # Never more than was sent, never less than before: a receiver cannot open its own window wider.
        self.acknowledged = max(self.acknowledged, min(received, self.sent))
        while self._frames and self._frames[0][0] <= self.acknowledged:
            _, sent, self._bounded = self._frames.popleft()
            self._newest = now - sent
            self.delay = min(self.delay, self._newest)
        self._busy = max(self._busy, busy)
        self._steps.append(Receipt(self.acknowledged - before[0], self._busy - before[1]))
        measured = self._measure()
        if measured is not None:
            rate = measured.size / measured.seconds if measured.seconds > 0 else 0.0
            if rate < self._bandwidth and self._starved:
                measured = Receipt(measured.size, 0.0)
            else:
                self._bandwidth, self.measured = rate, True
                self.certain = self.certain or measured.seconds >= SHORTEST_MEASURE
        if self.measured:
            # One burst may look faster than the link is, so the window grows step by step.
            target = min(self._bandwidth * (HORIZON + self.delay), 2 * self._limit)
            self._limit = int(min(self._size, max(2 * SMALLEST_FRAME, target)))
        return measured

    @property
    def _starved(self) -> bool:
        """Whether the link waits for the window: what it is sent waits for nothing else on its way."""
        if not self._bounded:
            return False
        empty = self.delay - SMALLEST_FRAME / self._bandwidth if self.measured else self.delay
        return self._newest <= QUEUED * empty

    def _measure(self) -> Receipt | None:
        """What came since the last measurement, if that is enough for one."""
        size, seconds = self.acknowledged - self._counted[0], self._busy - self._counted[1]
        everything = self.acknowledged == self.sent and seconds > 0
        first = not self.measured and len(self._steps) > BURST and seconds > 0
        if size <= 0 or not (seconds >= SHORTEST_MEASURE or everything or first):
            return None
        pause = max(self._steps, key=lambda step: step.seconds)
        if len(self._steps) >= BURST and pause.seconds > seconds / 2 and self._starved:
            # Frames in a row, then a pause until more were sent: the row shows what the link can do.
            seconds = (seconds - pause.seconds) * size / (size - pause.size)
        self._counted = (self.acknowledged, self._busy)
        self._steps.clear()
        return Receipt(size, seconds)
