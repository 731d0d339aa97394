"""How far a removal is from retrained models: what is asked of its result, and what its probe looks for on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from services.unlearning.stopping import Band, Bands, Reference
from tests.benchmarks.unlearning.scoring import Measured

LEAST_UTILITY = 0.9
"""Of the target's: what is asked of the result. The probe asks for a little more."""
_SAFE_UTILITY = 0.93
_LEAST_TOLERANCE = 3.0
"""Of the probe's shares of right tokens, in points: what its items can tell."""


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


def bands_of(reference: Reference, aucs: Sequence[float], utility: float) -> Bands:
    """Bands of a probe: as wide as the retrained models differ, and as what few items can tell.

    Parameters
    ----------
    reference
        Means and spreads of what the probe finds on the retrained models.
    aucs
        Their AUCs, whose range is the band of the AUC.
    utility
        The target's ``kept_em``.
    """

    def about(metric: str) -> Band:
        width = max(_LEAST_TOLERANCE, 1.96 * reference.spreads[metric])
        return Band(metric, reference[metric] - width, reference[metric] + width, width)

    privacy = Band("auc", min(aucs), max(aucs), max((max(aucs) - min(aucs)) / 2, 0.01))
    kept = Band("kept_em", least=_SAFE_UTILITY * utility, unit=10.0)
    return Bands((about("forget_em"), about("answers_em")), privacy, (kept,))
