"""One number for how good a checkpoint is, declared before the run: the best is kept, never simply the last."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.unlearning.stopping.measurements import Measurement
from services.unlearning.stopping.rules import Bound


class Chooser(Protocol):
    """Which of some measurements is the best; those at broken steps only if there is no other."""

    def best(self, history: Sequence[Measurement], broken: Iterable[float] = ()) -> Measurement:
        """Return one of at least one measurements."""
        ...


@dataclass(frozen=True)
class Scalarisation:
    """What is known too much, plus how far the membership AUC is off, as long as utility is kept.

    ::

        sum of max(0, excess over each bound) + privacy_weight * |PrivLeak|     subject to   utility >= least

    PrivLeak is 100 (AUC - AUC of the reference) / AUC of the reference. Without held-out texts, and so without an AUC,
    the loss of the forget set may stand for it.

    Attributes
    ----------
    bounds
        Metrics of what is known of the forget set, with the reference's values.
    auc
        The reference's membership AUC; None: privacy does not count.
    nll
        The reference's loss on the forget set, in nats a token, in place of an AUC; None: it does not count.
    privacy_weight
        Points of the bounds' metrics that a point of PrivLeak is worth.
    utility
        Least utility, such as 0.95 of the reference's; None: none is asked.
    """

    bounds: tuple[Bound, ...]
    auc: float | None = None
    privacy_weight: float = 0.1
    utility: float | None = None
    nll: float | None = None

    def cost(self, measurement: Measurement) -> float:
        """Return the number to minimise; infinite where anything it is made of is not finite."""
        total = 0.0
        for bound in self.bounds:
            over = measurement[bound.metric] - bound.reference
            over = over if bound.higher_knows else -over
            total += max(0.0, over - bound.tolerance) if math.isfinite(over) else math.inf
        for metric, reference in (("auc", self.auc), ("forget_nll", self.nll)):
            if reference is None:
                continue
            leak = 100.0 * (measurement[metric] - reference) / max(reference, 1e-6)
            total += self.privacy_weight * abs(leak) if math.isfinite(leak) else math.inf
        return total

    def shortfall(self, measurement: Measurement) -> float:
        """Utility missing from the least asked for; 0 where it is kept."""
        if self.utility is None:
            return 0.0
        missing = self.utility - measurement["utility"]
        return max(0.0, missing) if math.isfinite(missing) else math.inf

    def key(self, measurement: Measurement) -> tuple[float, float, float, float]:
        """Order measurements, the best first.

        Least shortfall of utility, then least cost; of equals the one of most utility, then the earliest.
        """
        utility = measurement.values.get("utility", 0.0)
        return self.shortfall(measurement), self.cost(measurement), -utility, measurement.step

    def best(self, history: Sequence[Measurement], broken: Iterable[float] = ()) -> Measurement:
        """Return the best of some measurements.

        Parameters
        ----------
        history
            At least one.
        broken
            Steps at which the model had diverged; they are chosen only if there is no other.
        """
        excluded = set(broken)
        sound = [each for each in history if each.step not in excluded]
        return min(sound or history, key=self.key)
