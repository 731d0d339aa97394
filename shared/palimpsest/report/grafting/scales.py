"""How a reading's values become shades, the same for pages and pictures."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from palimpsest.report.grafting.table import Case, Reading

DARKEST = 100
"""Shade of the high end; minus it is that of the low end of a diverging scale, and 0 the middle, or the low end."""


class Shades(NamedTuple):
    """A scale.

    Attributes
    ----------
    low, high
        The values at its ends; those beyond look like them.
    diverging
        Whether it has two hues that part at 0.
    logarithmic
        Whether equal ratios are equally far apart.
    falling
        Whether the low end is the darkest.
    """

    low: float
    high: float
    diverging: bool = False
    logarithmic: bool = False
    falling: bool = False

    def of(self, value: float | None) -> int | None:
        """The shade of a value; None of one that is not set, or no number."""
        if value is None or math.isnan(value):
            return None
        if self.diverging:
            return round(DARKEST * max(-1.0, min(1.0, value / self.high)))
        low, high, here = self.low, self.high, max(self.low, min(self.high, value))
        if self.logarithmic:
            low, high, here = math.log(low), math.log(high), math.log(here)
        share = (here - low) / (high - low) if high > low else 1.0
        return round(DARKEST * (1 - share if self.falling and high > low else share))


def shades_of(case: Case, name: str) -> Shades:
    """The scale of a reading: that of recovery is the same everywhere, others have all values of the case; those of
    estimates and margins are as long to both sides of 0.
    """
    if name == "recovery":
        return Shades(-1.0, 1.0, diverging=True)
    readings = [case.base, case.donor, *(cell.reading for cell in case.cells)]
    if name == "contrast_logprob" and case.contrast:
        readings += [Reading({name: each.values.get("logprob")}, "") for each in case.contrast[1:]]
    values = _finite(reading.values.get(name) for reading in readings)
    if name in ("estimate", "margin"):
        most = max(map(abs, values), default=0.0) or 1.0
        return Shades(-most, most, diverging=True)
    if name == "rank":
        return Shades(1.0, max([1.0, *values]), logarithmic=True, falling=True)
    if name in ("logprob", "contrast_logprob"):
        return Shades(min(values, default=0.0), max(values, default=0.0))
    return Shades(0.0, max(values, default=0.0))


def _finite(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]
