"""What every number of a request should be, in the number's own units: an interval, and which way it lies."""

import math
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import NamedTuple

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.report.removal.words import METRICS, number

_UNITS: Mapping[str, Callable[[float], float]] = {
    "auc_min_k": lambda points: points / 100,
    "perplexity": lambda points: math.exp(-points / 100),
}
"""From a criterion's units, points of 100 of which higher is better, to those of its measurements."""


class Target(NamedTuple):
    """The interval that a value should be in; an end that is None is open."""

    low: float | None
    high: float | None

    def text(self) -> str:
        """The interval in words."""
        if self.low is None:
            return f"at most {number(self.high or 0.0)}"
        if self.high is None:
            return f"at least {number(self.low)}"
        return number(self.low) if self.low == self.high else f"{number(self.low)} to {number(self.high)}"

    def direction(self, before: float) -> str:
        """Which way a value has to go to come there: an arrow with a word."""
        if self.low is not None and before < self.low:
            return "↑ up"
        if self.high is not None and before > self.high:
            return "↓ down"
        return "= stay"


def is_kept(criterion: pb.Criterion) -> bool:
    """Whether a criterion is of what is to be kept, where more than the references have is no fault."""
    named = METRICS.get(criterion.name)
    return criterion.verdict in (pb.VERDICT_UTILITY_KEPT, pb.VERDICT_UTILITY_LOST) or bool(
        named and named.kept
    )


def targets_of(result: pb.Result) -> dict[str, Target]:
    """The target of each metric that has a criterion; of PrivLeak it is 0."""
    found = {criterion.name: target_of(criterion) for criterion in result.criteria if criterion.references}
    if any(each.metric == "privleak" for each in result.measurements):
        found["privleak"] = Target(0.0, 0.0)
    return found


def target_of(criterion: pb.Criterion) -> Target:
    """The target of a criterion, in units of the measurements: where its verdict is REMOVED, or UTILITY_KEPT."""
    units = _UNITS.get(criterion.name, float)
    middle = fmean(criterion.references)
    low, high = middle - criterion.band, middle + criterion.band
    if is_kept(criterion):
        return Target(units(low), None) if units(low) <= units(high) else Target(None, units(low))
    # Nearer to the references than to the model before, however wide the band is.
    halfway = (middle + criterion.before) / 2
    low, high = (low, min(high, halfway)) if criterion.before > middle else (max(low, halfway), high)
    named = METRICS.get(criterion.name)
    least, most = (named and named.scale) or (-math.inf, math.inf)
    return Target(max(least, units(low)), min(most, units(high)))


def value_of(criterion: pb.Criterion, points: float) -> float:
    """A criterion's value in units of the measurements."""
    return _UNITS.get(criterion.name, float)(points)


def attack_target(row: pb.AttackResult) -> str:
    """What an attack may bring back, and what of that the references gain."""
    gained = f" (references {number(fmean(row.reference_gains))})" if row.reference_gains else ""
    return f"at most {number(row.bound)}{gained}"


def is_measured(row: pb.AttackResult) -> bool:
    """Whether an attack could be measured on the model that was made."""
    return all(each.model != "after" for each in row.not_measured)


def precisions(rows: Iterable[pb.AttackResult]) -> list[str]:
    """Precisions of the weights that something was measured at."""
    return sorted({row.precision for row in rows if is_measured(row)} - {""})


def failures(rows: Iterable[pb.AttackResult]) -> list[tuple[str, str, str]]:
    """What could not be measured: attack, model and reason, each once."""
    return list(
        dict.fromkeys((row.attack, each.model, each.message) for row in rows for each in row.not_measured)
    )
