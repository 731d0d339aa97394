"""What a receiver recomputes from the text: what it is ordered to, and more once the stream is slower than the text.

Pure and deterministic: times are arguments.
"""

from collections.abc import Sequence
from itertools import takewhile

SLACK = 0.09
"""Share of the time of recomputing everything for which a receiver may fall behind before it goes on by itself."""
EARLY = 1e-3
"""Seconds before its time that something counts as due: clocks and timers round."""


class TextLane:
    """The compute lane of one load, as its receiver knows it.

    The text alone takes the sum of all chunks' seconds. The time that has passed plus that of recomputing what is still
    missing may exceed it by ``SLACK``; then the lane takes the next chunk by itself. A chunk that it recomputes adds to
    the one what it takes from the other, so a load ends no later than that if
    recomputing takes the seconds it was said to take.

    One long prefill is cheaper than several short ones. So each time that nothing has arrived since the lane went on by
    itself, it takes twice as many chunks: those that a stream which comes back could still have brought cost no more
    time than the stream was silent.

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
        self._seconds, self._held, self._began = list(seconds), held, began
        self._missing = set(range(held, len(self._seconds)))
        self._ordered: set[int] = set()
        self._spent: dict[int, float] = {}
        self._pace = 1.0
        self._run = 1
        self._text, self._left = 0.0, 0.0
        self._estimate()

    @property
    def complete(self) -> bool:
        """Whether every chunk is there."""
        return not self._missing

    @property
    def text(self) -> float:
        """Seconds that recomputing everything takes: as expected, or less where that was measured."""
        return self._text

    def seconds(self, chunk: int) -> float:
        """Seconds that recomputing a chunk takes: as expected, or less if others took less."""
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
        self._run = 1
        self._there(chunk)
        return True

    def recomputed(self, chunk: int, seconds: float) -> None:
        """Note that a chunk has been recomputed, and how long that took; 0: it was cached."""
        if chunk not in self._missing:
            return
        if seconds > 0:
            # More than expected may be the decoder's share of the processor, which is no reason to wait for the stream.
            self._spent[chunk] = min(seconds, self._seconds[chunk])
        self._there(chunk)

    def wait(self, now: float) -> float | None:
        """Seconds until the lane goes on by itself; None: it is at work, or nothing is missing."""
        # An order runs once all before it is there: the lane is at work while the first missing chunk is ordered.
        if not self._missing or min(self._missing) in self._ordered:
            return None
        return (1 + SLACK) * self._text - self._left - (now - self._began)

    def take(self, now: float) -> list[int]:
        """Take the next chunks in a row, if it is time to go on; they count as ordered."""
        wait = self.wait(now)
        if wait is None or wait > EARLY:
            return []
        first = min(self._missing)
        row = list(takewhile(self.wanted, range(first, first + self._run)))
        self._ordered.update(row)
        self._run *= 2
        return row

    def take_rest(self) -> list[int]:
        """Take every chunk that is missing and not ordered: nothing more will be loaded."""
        rest = sorted(self._missing - self._ordered)
        self._ordered.update(rest)
        return rest

    def _there(self, chunk: int) -> None:
        self._missing.discard(chunk)
        self._estimate()

    def _estimate(self) -> None:
        expected = sum(self._seconds[chunk] for chunk in self._spent)
        self._pace = sum(self._spent.values()) / expected if expected > 0 else 1.0
        self._left = sum(self.seconds(chunk) for chunk in self._missing)
        chunks = range(self._held, len(self._seconds))
        self._text = sum(self._spent.get(chunk, self.seconds(chunk)) for chunk in chunks)
