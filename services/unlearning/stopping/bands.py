"""Everything at once: what is known, membership and utility, each within a band about the references' values.

Two retrained models differ as well. A band is as wide as they do, or as few items can tell; a model within all of them
cannot be told from one that never knew.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.stopping.measurements import Measurement
from services.unlearning.stopping.rules import Decision, Target


@dataclass(frozen=True)
class Band:
    """Values of a metric that will do.

    Attributes
    ----------
    metric
        Its name.
    least, most
        Ends of the band; infinite where only one side counts, such as utility's.
    unit
        Distance from the band that counts as 1, so that metrics can be compared: half the band's width, say.

    Raises
    ------
    InvalidArgument
        BRACKET_INVALID: the ends are in the wrong order, or the unit is not positive.
    """

    metric: str
    least: float = -math.inf
    most: float = math.inf
    unit: float = 1.0

    def __post_init__(self) -> None:
        if not self.least <= self.most or not 0 < self.unit < math.inf:
            message = (
                f"The band of {self.metric} goes from {self.least:g} to {self.most:g} in units of {self.unit:g}. Give "
                "its ends in order, and a unit above 0."
            )
            raise InvalidArgument(Reason.BRACKET_INVALID, message)

    def miss(self, measurement: Measurement) -> float:
        """Distance from the band in its unit: 0 within it, infinite for what is no number."""
        value = measurement[self.metric]
        if not math.isfinite(value):
            return math.inf
        return max(self.least - value, value - self.most, 0.0) / self.unit


@dataclass(frozen=True)
class BandMatch:
    """Ends a run as soon as every metric is within its band.

    Where ``target`` jumped from one side of its band to the other between two measurements and all others are within
    theirs, it says what to look for between the two.
    """

    bands: tuple[Band, ...]
    target: str = "auc"
    name: str = "band_match"

    def judge(self, history: Sequence[Measurement]) -> Decision | None:
        """Return ``matched`` where all hold, ``crossed`` where the target alone jumped over its band."""
        missed = [band for band in self.bands if band.miss(history[-1])]
        detail = ", ".join(f"{band.metric} {history[-1][band.metric]:.4g}" for band in self.bands)
        if not missed:
            return Decision(self.name, "matched", detail)
        if len(history) < 2 or [band.metric for band in missed] != [self.target]:
            return None
        [band] = missed
        middle = (band.least + band.most) / 2
        before, after = (each[self.target] - middle for each in history[-2:])
        if not (before * after < 0.0 and band.miss(history[-2])):
            return None
        return Decision(
            self.name, "crossed", detail, Target(self.target, middle, (band.most - band.least) / 2)
        )


@dataclass(frozen=True)
class KnownAgain:
    """Ends a repair once the forget set is known again: a metric is above its band, or the AUC is below its own.

    Of the AUC it says what to look for between the last two measurements: the point at which repair has brought
    membership to the references' is one of the best that it passes.
    """

    bands: tuple[Band, ...]
    target: str = "auc"
    name: str = "known_again"

    def judge(self, history: Sequence[Measurement]) -> Decision | None:
        """Return ``crossed`` or, without anything to look for, ``floor``."""
        last = history[-1]
        for band in self.bands:
            value = last[band.metric]
            detail = f"{band.metric} {value:.4g} (band {band.least:.4g} to {band.most:.4g})"
            if band.metric == self.target and value < band.least:
                middle = (band.least + band.most) / 2
                found = Target(self.target, middle, (band.most - band.least) / 2)
                return Decision(self.name, "crossed", detail, found)
            if band.metric != self.target and value > band.most:
                return Decision(self.name, "floor", detail)
        return None


@dataclass(frozen=True)
class Nearest:
    """The best state is the one whose worst band is missed by least; of equals the sum decides, then the earliest.

    Attributes
    ----------
    bands
        Where a state should be.
    before_all
        A state within all of these is better than any that is not, wherever it is among ``bands``.
    """

    bands: tuple[Band, ...]
    before_all: tuple[Band, ...] = ()

    def key(self, measurement: Measurement) -> tuple[bool, float, float, float]:
        """Order measurements, the best first."""
        short = not self.before_all or any(band.miss(measurement) for band in self.before_all)
        missed = [band.miss(measurement) for band in self.bands]
        return short, max(missed), sum(missed), measurement.step

    def best(self, history: Sequence[Measurement], broken: Iterable[float] = ()) -> Measurement:
        """Return the best of some measurements, as :meth:`Scalarisation.best` does."""
        excluded = set(broken)
        sound = [each for each in history if each.step not in excluded]
        return min(sound or history, key=self.key)
