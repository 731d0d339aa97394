"""Is a model closer to those that never knew, or to the one that knows? A verdict for each criterion, with evidence.

For a metric of what is known, u is the unlearned model's value, r the mean of the retrained ones, and t the target's,
before removal. The position (u - r) / (t - r) is 0 at the retrained models and 1 at the target. Two retrained models
differ as well, and few items say little, so that u counts as theirs within a band around r:

::

    sigma = sqrt( s^2 (1 + 1/k) + e^2 )          band = max(tolerance, 1.96 sigma)

where s is the standard deviation of the k retrained models (0 for one) and e the standard error of u - r over items,
which are the same for all models. Two models tell little of their spread; take three or more. Then, in this order:

1. the model is broken                                        -> DIVERGED, whatever else was measured;
2. of utility: more than the band below r                     -> UTILITY_LOST, otherwise UTILITY_KEPT;
3. t within the band of r: the metric cannot tell them apart  -> UNDECIDED, as where r or t is not finite;
4. u half of the way to t or further                          -> NOT_REMOVED;
5. u within the band of r                                     -> REMOVED;
6. u on the target's side of r                                -> PARTLY_REMOVED;
7. u on the other side: it stands out as one that was treated -> OVER_UNLEARNED.

So a criterion is met where the value lies between two bounds, which a finding names: whoever has these and the value
comes to the same end.

The verdict over all criteria is the first that any of them has, in the order of :class:`Verdict`. A membership score
within its band by collapse thus counts for nothing where utility is lost.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason

QUANTILE = 1.96
"""Of the standard normal distribution, for bands of 95 %."""


class Verdict(StrEnum):
    """What was found: of a criterion, or of all, by the first of those below that any criterion has."""

    DIVERGED = "DIVERGED"
    NOT_REMOVED = "NOT_REMOVED"
    PARTLY_REMOVED = "PARTLY_REMOVED"
    UTILITY_LOST = "UTILITY_LOST"
    OVER_UNLEARNED = "OVER_UNLEARNED"
    REMOVED = "REMOVED"
    UTILITY_KEPT = "UTILITY_KEPT"
    UNDECIDED = "UNDECIDED"


@dataclass(frozen=True)
class Criterion:
    """One metric of the unlearned model and of those it is compared with.

    Attributes
    ----------
    name
        Such as ``verbmem``, or ``knowmem under int4/32`` for an attacked model and attacked retrained ones.
    unlearned, target
        Values of the model and of the one before removal.
    retrained
        Of models trained without what was removed, at least one.
    error
        Standard error of the unlearned value less the mean of the retrained ones, over items.
    tolerance
        Difference that is of no account, in units of the metric: 5 points of 100, 0.05 of an AUC.
    kind
        ``knowledge``: of what was to be removed, or membership; ``utility``: of what was to be kept, higher is better.
    """

    name: str
    unlearned: float
    target: float
    retrained: tuple[float, ...]
    error: float = 0.0
    tolerance: float = 5.0
    kind: Literal["knowledge", "utility"] = "knowledge"

    @classmethod
    def of_items(
        cls,
        name: str,
        unlearned: NDArray[np.float64],
        target: NDArray[np.float64],
        retrained: Sequence[NDArray[np.float64]],
        *,
        tolerance: float = 5.0,
        kind: Literal["knowledge", "utility"] = "knowledge",
    ) -> "Criterion":
        """Make a criterion of scores of the same items, float64 [items] for each model; the error is that of pairs.

        Raises
        ------
        InvalidArgument
            SCORES_INVALID: fewer than two items, or models scored on different ones.
        FailedPrecondition
            REFERENCE_MISSING: there is no retrained model.
        """
        _require(retrained)
        if len(unlearned) < 2 or any(each.shape != unlearned.shape for each in (target, *retrained)):
            message = f"{name} compares models on the same items, at least two of them; score them all alike."
            raise InvalidArgument(Reason.SCORES_INVALID, message)
        apart = unlearned - np.mean(retrained, axis=0)
        error = float(apart.std(ddof=1)) / math.sqrt(len(apart))
        means = tuple(float(each.mean()) for each in retrained)
        return cls(name, float(unlearned.mean()), float(target.mean()), means, error, tolerance, kind)


@dataclass(frozen=True)
class Finding:
    """The verdict of one criterion, and what it rests on.

    Attributes
    ----------
    criterion
        What was compared.
    verdict
        By the rule of this module.
    from_retrained, from_target
        Signed distances of the unlearned value, in units of sigma; infinite where sigma is 0 and they differ.
    position
        0 at the retrained models, 1 at the target; NaN where these are equal.
    band
        Distance from the retrained models within which a value counts as theirs, in units of the metric.
    low, high
        Least and largest value that is REMOVED or UTILITY_KEPT; infinite where none is too small or too large.
    """

    criterion: Criterion
    verdict: Verdict
    from_retrained: float
    from_target: float
    position: float
    band: float
    low: float
    high: float


@dataclass(frozen=True)
class Judgement:
    """The verdict over all criteria.

    Attributes
    ----------
    verdict
        The first in the order of the module's docstring.
    findings
        Of each criterion.
    reason
        What it rests on, in a sentence.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    reason: str


def find(criterion: Criterion, *, diverged: bool = False) -> Finding:
    """Judge one criterion.

    Parameters
    ----------
    criterion
        What was measured.
    diverged
        Whether the unlearned model is broken, by :class:`services.unlearning.stopping.rules.DivergenceGuard`.

    Raises
    ------
    FailedPrecondition
        REFERENCE_MISSING: there is no retrained model to compare with.
    """
    _require(criterion.retrained)
    u, t, r = criterion.unlearned, criterion.target, fmean(criterion.retrained)
    count = len(criterion.retrained)
    spread = stdev(criterion.retrained) if count > 1 else 0.0
    sigma = math.hypot(spread * math.sqrt(1 + 1 / count), criterion.error)
    band = max(criterion.tolerance, QUANTILE * sigma)
    low, high = r - band, math.inf
    if criterion.kind == "knowledge":
        low, high = _between(t, r, band)
    if diverged or not math.isfinite(u):
        verdict = Verdict.DIVERGED
    elif criterion.kind == "utility":
        if math.isfinite(r - band):
            verdict = Verdict.UTILITY_KEPT if low <= u else Verdict.UTILITY_LOST
        else:
            verdict = Verdict.UNDECIDED
    else:
        verdict = _of_knowledge(u, t, r, band)
    position = (u - r) / (t - r) if t != r else math.nan
    return Finding(
        criterion, verdict, _in_units(u - r, sigma), _in_units(u - t, sigma), position, band, low, high
    )


def judge(criteria: Sequence[Criterion], *, diverged: bool = False) -> Judgement:
    """Judge a model by all criteria.

    Raises
    ------
    InvalidArgument
        SCORES_INVALID: there are none.
    FailedPrecondition
        REFERENCE_MISSING: one has no retrained model.
    """
    if not criteria:
        raise InvalidArgument(Reason.SCORES_INVALID, "A verdict needs at least one criterion.")
    findings = tuple(find(criterion, diverged=diverged) for criterion in criteria)
    found = {finding.verdict for finding in findings}
    order = list(Verdict)
    verdict = min(found - {Verdict.UTILITY_KEPT} or {Verdict.UNDECIDED}, key=order.index)
    names = [finding.criterion.name for finding in findings if finding.verdict is verdict]
    return Judgement(
        verdict, findings, f"{verdict} by {', '.join(names)}." if names else "Nothing was decided."
    )


def _of_knowledge(u: float, t: float, r: float, band: float) -> Verdict:
    if not (math.isfinite(t) and math.isfinite(r) and abs(t - r) > band):
        return Verdict.UNDECIDED
    low, high = _between(t, r, band)
    if low <= u <= high:
        return Verdict.REMOVED
    half = _half(t, r)
    if u >= half if t > r else u <= half:
        return Verdict.NOT_REMOVED
    return Verdict.PARTLY_REMOVED if (u > r) == (t > r) else Verdict.OVER_UNLEARNED


def _between(t: float, r: float, band: float) -> tuple[float, float]:
    """Least and largest value within the band of r that is nearer to r than to t."""
    half = math.nextafter(_half(t, r), r)
    return (r - band, min(r + band, half)) if t > r else (max(r - band, half), r + band)


def _half(t: float, r: float) -> float:
    return r + (t - r) / 2


def _in_units(distance: float, sigma: float) -> float:
    if distance == 0.0:
        return 0.0
    return distance / sigma if sigma else math.copysign(math.inf, distance)


def _require(retrained: Sequence[object]) -> None:
    if not retrained:
        message = "There is no retrained model to compare with; train at least one without what was removed."
        raise FailedPrecondition(Reason.REFERENCE_MISSING, message)
