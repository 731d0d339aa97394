"""A small set of selections whose graft is enough, found greedily and checked by real grafts."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

Recover = Callable[[Sequence[tuple[int, ...]]], list[float]]
"""Recoveries of grafts of some sets of units, each given in order."""


class Found(NamedTuple):
    """A set of units.

    Attributes
    ----------
    units
        In order; empty if all together are not enough.
    recovery
        Of the set, or of all units.
    grafts
        How many the search took.
    """

    units: tuple[int, ...]
    recovery: float
    grafts: int


def smallest_sufficient(order: Sequence[int], threshold: float, recover: Recover) -> Found:
    """Find a set with a recovery of at least ``threshold`` from which no unit can be left out.

    Units are taken in order until they are enough; then each is left out that can be, the least promising first, again
    and again until none can be: recovery need not grow with the set. What is left is minimal among its own subsets of
    one unit less, but another set may be smaller.

    Parameters
    ----------
    order
        All units, the most promising first.
    threshold
        Recovery from which a set is enough.
    recover
        Grafts sets.
    """
    sets = [tuple(sorted(order[:count])) for count in range(1, len(order) + 1)]
    recoveries = recover(sets)
    grafts = len(sets)
    enough = [at for at, recovery in enumerate(recoveries) if recovery >= threshold]
    if not enough:
        return Found((), recoveries[-1], grafts)
    units, recovery = set(sets[enough[0]]), recoveries[enough[0]]
    shrinks = True
    while shrinks and len(units) > 1:
        shrinks = False
        for unit in reversed([each for each in order if each in units]):
            if len(units) == 1:
                break
            (without,) = recover([tuple(sorted(units - {unit}))])
            grafts += 1
            if without >= threshold:
                units, recovery, shrinks = units - {unit}, without, True
    return Found(tuple(sorted(units)), recovery, grafts)
