"""What a receiver recomputes from the text: what it is ordered to, and more once the stream is slower than the text.

Pure and deterministic: times are arguments.
"""

from collections.abc import Sequence

SLACK = 0.05
"""Share of the time of recomputing everything for which a receiver may fall behind before it goes on by itself."""
EARLY = 1e-3
"""Seconds before its time that something counts as due: clocks and timers round."""
SMOOTHING = 0.6
"""Weight of the newest chunk in the running ratio of measured to expected seconds."""


class TextLane:
    """The compute lane of one load, as its receiver knows it.

    The text alone takes the sum of all chunks' seconds. The time that has passed plus that of recomputing what is still
    missing may exceed it by ``SLACK``; then the lane takes the next chunk by itself. A chunk that it recomputes adds to
    the one what it takes from the other, so a load ends no later than that, whatever the link does.

    Parameters
    ----------
    seconds
        To recompute each chunk of the context that the load ends up with.
    held
        Leading chunks that are there already.
    began
        When the load began, in seconds.
    """

    def __init__(self, seconds: Sequence[float], held: int, began: float) -> None:
        self._seconds, self._began = list(seconds), began
        self._missing = set(range(held, len(self._seconds)))
        self._ordered: set[int] = set()
        self._text = self._left = sum(self._seconds[held:])
        self._slowness = 1.0

    @property
    def _pace(self) -> float:
        # Chunks that took longer than expected may have shared the processor with decoding, which is no reason to wait.
        return min(1.0, self._slowness)

    @property
    def complete(self) -> bool:
        """Whether every chunk is there."""
        return not self._missing

    @property
    def text(self) -> float:
        """Seconds that recomputing everything takes: as expected, or less if that was measured."""
        return self._text * self._pace

    def seconds(self, chunk: int) -> float:
        """Seconds that recomputing a chunk takes: as expected, or less if that was measured."""
        return self._seconds[chunk] * self._pace

    def order(self, chunk: int) -> bool:
        """Note that a chunk is to be recomputed; returns whether that is news."""
        if chunk in self._ordered:
            return False
        self._ordered.add(chunk)
        return True

    def wanted(self, chunk: int) -> bool:
        """Whether a chunk is missing and not being recomputed."""
        return chunk in self._missing and chunk not in self._ordered

    def arrive(self, chunk: int) -> bool:
        """Note that a chunk has been loaded; returns whether it was wanted."""
        if not self.wanted(chunk):
            return False
        self._there(chunk)
        return True

    def recomputed(self, chunk: int, seconds: float) -> None:
        """Note that a chunk has been recomputed, and how long that took; 0: it was cached."""
        if chunk not in self._missing:
            return
        expected = self._seconds[chunk]
        if expected > 0 and seconds > 0:
            self._slowness = SMOOTHING * seconds / expected + (1 - SMOOTHING) * self._slowness
        self._there(chunk)

    def wait(self, now: float) -> float | None:
        """Seconds until the lane goes on by itself; None: it is at work, or nothing is missing."""
        # An order runs once all before it is there: the lane is at work while the first missing chunk is ordered.
        if not self._missing or min(self._missing) in self._ordered:
            return None
        return (1 + SLACK) * self.text - self._left * self._pace - (now - self._began)

    def take(self, now: float) -> int | None:
        """Take the next chunk, if it is time to go on; it counts as ordered."""
        wait = self.wait(now)
        if wait is None or wait > EARLY:
            return None
        chunk = min(self._missing)
        self._ordered.add(chunk)
        return chunk

    def take_rest(self) -> list[int]:
        """Take every chunk that is missing and not ordered: nothing more will be loaded."""
        rest = sorted(self._missing - self._ordered)
        self._ordered.update(rest)
        return rest

    def _there(self, chunk: int) -> None:
        self._missing.discard(chunk)
        self._left = sum(self._seconds[index] for index in self._missing)
