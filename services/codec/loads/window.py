"""Bounds how much of a load is on its way, and measures the link from the receipts."""

from palimpsest.kv.plan import Receipt

WINDOW = 1 << 20
"""Most bytes on the way without a receipt, unless the receiver asks for another window."""
LARGEST_FRAME, SMALLEST_FRAME = 256 << 10, 16 << 10
SHORTEST_MEASURE = 0.02
"""Least seconds of receiving that a measurement of the bandwidth covers, unless everything sent has arrived."""


class Window:
    """Bytes sent and acknowledged. Bounding what lies between makes the bandwidth that of the receiver.

    Parameters
    ----------
    size
        Most bytes on the way; 0: ``WINDOW``.

    Attributes
    ----------
    sent, acknowledged
        Bytes of chunks, since the load began.
    """

    def __init__(self, size: int) -> None:
        self._size = size or WINDOW
        self._frame = min(self._size, LARGEST_FRAME, max(SMALLEST_FRAME, self._size // 8))
        self.sent = self.acknowledged = 0
        self._busy = 0.0
        self._measured = (0, 0.0)

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        return self._size - self.on_way

    @property
    def on_way(self) -> int:
        """Bytes that were sent and not acknowledged."""
        return self.sent - self.acknowledged

    @property
    def frame(self) -> int:
        """Bytes of the next frame. The first ones are small and soon measure a slow link; then they grow."""
        return min(self._frame, max(SMALLEST_FRAME, self.sent))

    @property
    def measured(self) -> bool:
        """Whether the link has been measured yet."""
        return self._measured[0] > 0

    def receipt(self, received: int, busy: float) -> Receipt | None:
        """Count a receipt; returns a measurement of the link once enough has arrived for one.

        Parameters
        ----------
        received
            Bytes received since the load began.
        busy
            Seconds the receiver has spent receiving them.
        """
        # Never more than was sent, never less than before: a receiver cannot open its own window wider.
        self.acknowledged = max(self.acknowledged, min(received, self.sent))
        self._busy = max(self._busy, busy)
        size, seconds = self.acknowledged - self._measured[0], self._busy - self._measured[1]
        everything = self.acknowledged == self.sent and seconds > 0
        if size <= 0 or not (seconds >= SHORTEST_MEASURE or everything):
            return None
        self._measured = (self.acknowledged, self._busy)
        return Receipt(size, seconds)
