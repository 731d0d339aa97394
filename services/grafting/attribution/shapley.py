"""Exact Shapley and interaction values from the worth of every subset of a few players."""

from collections.abc import Sequence
from math import factorial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Values(NamedTuple):
    """What players are worth.

    Attributes
    ----------
    shapley
        [players]: the mean gain over all orders in which they may join; adds up to the worth of all (Shapley, 1953).
    interactions
        [players, players], symmetric, 0 on the diagonal: for two players the mean over all orders, in which both join
        next to one another, of what they gain beyond each alone (Grabisch and Roubens, 1999).
    """

    shapley: npt.NDArray[np.float64]
    interactions: npt.NDArray[np.float64]


def values_of(worth: Sequence[float]) -> Values:
    """Compute both.

    Parameters
    ----------
    worth
        By subset, a bit for each player; the first is that of none. 2^players of them.
    """
    players = len(worth).bit_length() - 1
    v = np.asarray(worth, np.float64)
    subsets = np.arange(len(v))
    sizes = np.array([int(s).bit_count() for s in subsets])
    shapley, interactions = np.zeros(players), np.zeros((players, players))
    for i in range(players):
        out = subsets[subsets >> i & 1 == 0]
        weight = np.array([factorial(players - 1 - s) * factorial(s) for s in sizes[out]]) / factorial(
            players
        )
        shapley[i] = float(weight @ (v[out | 1 << i] - v[out]))
        for j in range(i):
            rest = out[out >> j & 1 == 0]
            both, mine, other = rest | 1 << i | 1 << j, rest | 1 << i, rest | 1 << j
            weight = np.array([factorial(players - 2 - s) * factorial(s) for s in sizes[rest]])
            gain = v[both] - v[mine] - v[other] + v[rest]
            interactions[i, j] = interactions[j, i] = float(weight @ gain) / factorial(players - 1)
    return Values(shapley, interactions)
