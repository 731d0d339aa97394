"""Percentile bootstrap intervals (MUSE section 4: 9,999 resamples, 95 %)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

_AT_ONCE = 1 << 20
"""Weights in memory at once, as a number of elements."""

Weights: TypeAlias = np.ndarray
"""[resamples, items] float64: how often each item was drawn, divided by the number of items."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are computed.

    Parameters
    ----------
    resamples
        Number of resamples; 0 for no intervals (probes during training).
    confidence
        Share of the resampled statistics that lie within the interval.
    seed
        Seed of the draws: equal values have equal intervals.
    """

    resamples: int = 9_999
    confidence: float = 0.95
    seed: int = 0

    def interval(
        self, statistic: Callable[..., np.ndarray], sizes: Sequence[int]
    ) -> tuple[float, float] | None:
        """Interval of a statistic of one or more samples, which are drawn independently of each other.

        Parameters
        ----------
        statistic
            Takes :data:`Weights` for each sample and gives the statistic of each resample, [resamples].
        sizes
            Number of items of each sample.

        Returns
        -------
        tuple or None
            Its ends; None without resamples.
        """
        if not self.resamples:
            return None
        rng = np.random.default_rng(self.seed)
        batch = max(1, _AT_ONCE // max(sizes))
        found = []
        for first in range(0, self.resamples, batch):
            count = min(batch, self.resamples - first)
            found.append(statistic(*(_weights(rng, count, size) for size in sizes)))
        tail = 50 * (1 - self.confidence)
        low, high = np.percentile(np.concatenate(found), [tail, 100 - tail])
        return float(low), float(high)

    def mean(self, values: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
        """Interval of the mean of values.

        The difference of two models over the same items is the mean of the differences: give those, and the interval
        is that of the paired bootstrap.
        """
        array = np.asarray(values, np.float64)
        return self.interval(lambda weights: weights @ array, [len(array)])


def _weights(rng: np.random.Generator, resamples: int, size: int) -> Weights:
    drawn = rng.integers(0, size, (resamples, size)) + size * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size) / size
