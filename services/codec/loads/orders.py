"""What the receiver is asked to recompute."""

from palimpsest.kv.plan import Load
from services.codec.loads.window import Window

FIRST_ORDER = 0.1
"""Seconds after which the first chunk is ordered to be recomputed even if no receipt has come: such a link is slow.
On a fast one recomputing would only take processor time from decoding."""
FIRST_SHARE = 0.05
"""The same as a share of the time that recomputing everything takes, where that is less."""
AHEAD = 2
"""Orders that may be under way: one that is carried out, and one that waits for it."""


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
    first_at
        When the first chunk is ordered without a measurement, in seconds from the start.
    """

    def __init__(self, load: Load, window: Window) -> None:
        self._load, self._window = load, window
        self._unknown = load.recompute and not load.bandwidth
        text = sum(chunk.recompute for chunk in load.chunks) * load.sharers
        self.first_at = min(FIRST_ORDER, FIRST_SHARE * text)
        self._under_way: set[int] = set()
        self.recomputed: set[int] = set()

    def __bool__(self) -> bool:
        """Whether any order is under way."""
        return bool(self._under_way)

    @property
    def unknown(self) -> bool:
        """Whether the first order still waits for a measurement of the link that can be relied on."""
        return self._unknown

    def may_order(self, now: float, free: float) -> bool:
        """Whether enough is known of the link to decide, and the receiver will be free when an order arrives.

        Parameters
        ----------
        now
            Seconds from the start.
        free
            When it should have carried out what it was ordered.
        """
        self._unknown = self._unknown and not self._window.certain and now < self.first_at
        if self._unknown or not self._load.recompute:
            return False
        return not self._under_way or (len(self._under_way) < AHEAD and free - now <= self._window.lead)

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
