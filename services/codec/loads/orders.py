"""What the receiver is asked to recompute."""

from palimpsest.kv.plan import Load
from services.codec.loads.window import Window

FIRST_ORDER = 0.1
"""Seconds after which the first chunk is ordered to be recomputed even if no receipt has come: such a link is slow.
On a fast one recomputing would only take processor time from decoding."""


class Orders:
    """Chunks that the receiver recomputes: those under way, and all so far.

    Parameters
    ----------
    load
        The load.
    window
        Knows whether the link has been measured.

    Attributes
    ----------
    recomputed
        Chunks ordered so far, finished or not.
    """

    def __init__(self, load: Load, window: Window) -> None:
        self._load, self._window = load, window
        self._unknown = load.recompute and not load.bandwidth
        self._under_way: set[int] = set()
        self.recomputed: set[int] = set()

    def __bool__(self) -> bool:
        """Whether any order is under way."""
        return bool(self._under_way)

    @property
    def unknown(self) -> bool:
        """Whether the first order still waits for a measurement of the link."""
        return self._unknown

    def may_order(self, now: float) -> bool:
        """Whether the receiver is free to recompute, and enough is known of the link to decide."""
        self._unknown = self._unknown and not self._window.measured and now < FIRST_ORDER
        return self._load.recompute and not (self._unknown or self._under_way)

    def order(self, chunk: int) -> None:
        """Note an order."""
        self._under_way.add(chunk)
        self.recomputed.add(chunk)

    def finish(self, chunk: int) -> bool:
        """Note that the receiver has recomputed a chunk; returns whether it was ordered to."""
        if chunk not in self._under_way:
            return False
        self._under_way.discard(chunk)
        return True

    @property
    def longest(self) -> float:
        """Seconds that the longest order under way should take."""
        seconds = (self._load.chunks[chunk].recompute for chunk in self._under_way)
        return max(seconds, default=0.0) * self._load.sharers
