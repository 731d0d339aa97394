"""Means over cases, with what other cases might have given."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DRAWS = 2000
_CONFIDENCE = 0.95
_SEED = 0


class Interval(NamedTuple):
    """A mean, and the ends of its interval; None for fewer than two cases."""

    mean: float
    low: float | None
    high: float | None


def intervals(rows: npt.NDArray[np.float64]) -> list[Interval]:
    """Take the mean of each row, with its 95 % interval by the percentile bootstrap over columns.

    Cases are drawn, not tokens or cells, since it is other facts that a reader wants to know of; all rows see the same
    draws. Of few cases the interval is too narrow.

    Parameters
    ----------
    rows
        [rows, cases], finite, at least one case.
    """
    means = rows.mean(1)
    if rows.shape[1] < 2:
        return [Interval(float(mean), None, None) for mean in means]
    from scipy.stats import bootstrap

    found = bootstrap(
        (rows,),
        np.mean,
        axis=-1,
        n_resamples=DRAWS,
        batch=max(1, (1 << 22) // rows.size),
        confidence_level=_CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return [Interval(*map(float, each)) for each in zip(means, found.low, found.high, strict=True)]
