"""Intervals over facts: how sure a mean, a difference or a ratio of readings is, given which facts were asked.

Bootstrap of whole facts (bias-corrected and accelerated; Efron 1987), by scipy. Cases of one fact are not independent:
average them first, so that a row is a fact.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from palimpsest.errors import InvalidArgument, Reason

LEVEL = 0.95
RESAMPLES = 9999
_SEED = 0

Floats = Sequence[float] | npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A figure with its confidence interval; the ends are the figure itself where no fact changes it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def mean_of(values: Floats, level: float = LEVEL) -> Interval:
    """Mean over facts.

    Parameters
    ----------
    values
        One for each fact, at least two.
    level
        Of confidence.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: there are too few values, they are of different lengths, or one is not finite.
    """
    return _bootstrap((values,), lambda a, axis: np.mean(a, axis=axis), level)


def difference_of(values: Floats, others: Floats, level: float = LEVEL) -> Interval:
    """Mean of ``values - others``, paired by fact; see :func:`mean_of`."""
    return _bootstrap(
        (values, others), lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis), level
    )


def ratio_of(values: Floats, others: Floats, level: float = LEVEL) -> Interval:
    """Mean of ``values`` over mean of ``others``, which are positive; paired by fact; see :func:`mean_of`."""
    return _bootstrap(
        (values, others), lambda a, b, axis: np.mean(a, axis=axis) / np.mean(b, axis=axis), level
    )


def _bootstrap(samples: tuple[Floats, ...], statistic: Callable[..., Any], level: float) -> Interval:
    from scipy.stats import bootstrap  # a second to import, which no other use of facts should pay

    rows = [np.asarray(each, dtype=np.float64) for each in samples]
    counts = {each.shape for each in rows}
    if (
        len(counts) > 1
        or rows[0].ndim != 1
        or len(rows[0]) < 2
        or not all(np.isfinite(r).all() for r in rows)
    ):
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST,
            "values",
            "An interval needs finite readings of at least two facts, as many of each kind.",
        )
    value = float(statistic(*rows, axis=-1))
    without = [float(statistic(*(np.delete(row, at) for row in rows), axis=-1)) for at in range(len(rows[0]))]
    if np.allclose(
        without, value, rtol=1e-12, atol=1e-300
    ):  # no fact matters, and the bootstrap divides by that
        return Interval(value, value, value)
    found = bootstrap(
        rows,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=level,
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high))
