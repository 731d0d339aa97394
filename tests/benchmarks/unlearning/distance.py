"""How far a removal is from retrained models, and what is asked of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from tests.benchmarks.unlearning.scoring import Measured

LEAST_UTILITY = 0.9
"""Of the target's."""


@dataclass(frozen=True)
class Known:
    """The retrained models of a lab.

    Attributes
    ----------
    measured
        Of each.
    halves
        Half the 95 % intervals of VerbMem, KnowMem and utility over the items, whose values are means over the models.
    """

    measured: tuple[Measured, ...]
    halves: Mapping[str, float]

    def values(self, what: str) -> list[float]:
        """One number of each model."""
        return [getattr(each, what) for each in self.measured]


@dataclass(frozen=True)
class Distance:
    """How far a result is from what is asked.

    Attributes
    ----------
    verbmem, knowmem
        From the retrained models' mean, in half intervals: 1 is asked.
    utility
        Share of the target's.
    privleak
        Points outside the range of the retrained models.
    """

    verbmem: float
    knowmem: float
    utility: float
    privleak: float

    @classmethod
    def of(cls, found: Measured, known: Known, target: Measured) -> "Distance":
        """Compare a result with the retrained models and the target."""

        def halves(what: str) -> float:
            return abs(getattr(found, what) - fmean(known.values(what))) / max(known.halves[what], 1e-9)

        leaks = known.values("privleak")
        outside = max(min(leaks) - found.privleak, found.privleak - max(leaks), 0.0)
        return cls(halves("verbmem"), halves("knowmem"), found.utility / max(target.utility, 1e-9), outside)

    @property
    def worst(self) -> float:
        """One number to choose by: at most 1 where everything asked holds.

        Ten points of utility or of PrivLeak that are missing count as one half interval.
        """
        lost = 1 + 10 * (LEAST_UTILITY - self.utility) if self.utility < LEAST_UTILITY else 0.0
        leaks = 1 + self.privleak / 10 if self.privleak else 0.0
        return max(self.verbmem, self.knowmem, lost, leaks)
