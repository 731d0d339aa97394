"""The slack of a step: how much background work it takes beside the interactive requests.

::

    own     what the step costs with the interactive rows alone, by the cost model
    limit   factor * own: background rows are added while the step is expected to stay within it

Background requests take part in the order in which they came, the oldest first. One that does not fit stays out of
the step and keeps its memory. Where ``GUARANTEED_EVERY`` steps in a row had room for none, the next one takes the
oldest, whatever it costs: no request waits for ever, and what such a step costs is learnt anew. They are fewer than one
step in a hundred, so a 99th percentile does not show them. Where nothing interactive runs there is no limit.
"""

from collections.abc import Callable

Cost = Callable[[int, int], float]

FACTOR = 1.1
"""How much longer than by itself a step may be expected to take, unless the engine is told otherwise."""
GUARANTEED_EVERY, GUARANTEED_ROWS = 256, 8
"""Steps after which one takes background work anyway, and how many tokens of a prompt it takes at most."""


class Room:
    """The background rows of one step.

    Parameters
    ----------
    cost
        The expected cost of a step's rows and the tokens they attend to; None where there is no limit.
    rows, looked_at
        Those of the interactive requests; no rows: there is no limit.
    factor
        The limit, relative to their own cost.
    guaranteed
        The first that wants rows gets some, and nobody else.

    Attributes
    ----------
    taken
        Rows taken so far.
    """

    def __init__(self, cost: Cost | None, rows: int, looked_at: int, factor: float, guaranteed: bool) -> None:
        self.taken = 0
        self.beside = rows > 0
        self.guaranteed = guaranteed
        self._cost, self._rows, self._looked_at = cost, rows, looked_at
        self._limit = factor * cost(rows, looked_at) if cost is not None and rows else 0.0

    @property
    def rows(self) -> int:
        """All rows of the step."""
        return self._rows

    def take(self, wanted: int, depth: int) -> int:
        """Take up to ``wanted`` rows of one sequence whose cache has ``depth`` tokens; returns how many.

        Where they do not all fit it is a half of them, a quarter, and so on.
        """
        if self.guaranteed:
            count = 0 if self.taken else min(wanted, GUARANTEED_ROWS)
        else:
            count = wanted
            while count and not self._fits(count, depth):
                count //= 2
        self.taken += count
        self._rows += count
        self._looked_at += count * depth
        return count

    def _fits(self, count: int, depth: int) -> bool:
        if not self.beside or self._cost is None:
            return True
        return self._cost(self._rows + count, self._looked_at + count * depth) <= self._limit


class Slack:
    """Makes the room of each step, and remembers for how long background requests had none.

    Parameters
    ----------
    factor
        How much longer than by itself a step may be expected to take; at least 1.
    """

    def __init__(self, factor: float = FACTOR) -> None:
        self._factor = factor
        self._without = 0

    def room(self, cost: Cost | None, rows: int, looked_at: int) -> Room:
        """The room beside interactive rows that attend to ``looked_at`` tokens altogether."""
        guaranteed = rows > 0 and self._without >= GUARANTEED_EVERY
        return Room(cost, rows, looked_at, self._factor, guaranteed)

    def used(self, room: Room) -> None:
        """Note what a step took, in which background requests wanted rows."""
        self._without = 0 if room.taken or not room.beside else self._without + 1
