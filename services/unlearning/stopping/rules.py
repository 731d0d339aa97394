"""When a run ends: rules over what was measured so far. Each is a function of the measurements alone.

Some look for a match with a reference, two for what a run must not go past. A model unlearns past its reference within
a few steps, so that where a metric jumped over it, the rule says what to look for between the last two.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from scipy import stats

from services.unlearning.stopping.measurements import Measurement

Outcome = Literal["matched", "crossed", "floor", "diverged"]
"""How a rule ends a run: where it should be; past it; at too little utility; broken."""


@dataclass(frozen=True)
class Target:
    """A value that a metric passed between two measurements."""

    metric: str
    value: float
    tolerance: float


@dataclass(frozen=True)
class Decision:
    """Why a run ends.

    Attributes
    ----------
    rule
        Name of the rule.
    outcome
        How.
    detail
        The figures, in a sentence.
    target
        Where something was passed: what to look for between the last two measurements.
    """

    rule: str
    outcome: Outcome
    detail: str
    target: Target | None = None


class Rule(Protocol):
    """Decides after each measurement whether the run ends."""

    @property
    def name(self) -> str:
        """What decisions are told under."""
        ...

    def judge(self, history: Sequence[Measurement]) -> Decision | None:
        """Return the decision after the last of at least one measurements, None to go on."""
        ...


@dataclass(frozen=True)
class Bound:
    """What a metric must come down to: the reference's value, give or take a tolerance.

    ``higher_knows`` is False for losses, which must come up to it.
    """

    metric: str
    reference: float
    tolerance: float = 0.0
    higher_knows: bool = True

    def met(self, measurement: Measurement) -> bool:
        """Whether the metric is at the reference, or on its far side."""
        value = measurement[self.metric]
        if self.higher_knows:
            return value <= self.reference + self.tolerance
        return value >= self.reference - self.tolerance


@dataclass(frozen=True)
class ForgetMatch:
    """Ends a run as soon as it knows no more of the forget set than the reference, by every metric named.

    What is known may come down slowly: of most tokens of a text the others tell. Losses without a bound run far past
    the reference until then, and what was forgotten stands out. The run ends as well where ``past`` was passed.

    Attributes
    ----------
    bounds
        What is known.
    past
        How unlikely the forget set is to the reference, by its loss or by membership AUC, which rise as it is
        forgotten; None: it does not count. Nor does it where it is passed before the first step.
    """

    bounds: tuple[Bound, ...]
    name: str = "forget_match"
    past: Target | None = None

    def judge(self, history: Sequence[Measurement]) -> Decision | None:
        """Return ``matched`` once all bounds are met, ``crossed`` where they are not and ``past`` was passed."""
        last, past = history[-1], self.past
        if past is not None and not history[0][past.metric] < past.value <= last[past.metric]:
            past = None
        if all(bound.met(last) for bound in self.bounds):
            figures = ", ".join(
                f"{b.metric} {last[b.metric]:.4g} (reference {b.reference:.4g})" for b in self.bounds
            )
            return Decision(self.name, "matched", figures, past)
        if past is None:
            return None
        figures = f"{past.metric} {last[past.metric]:.4g} (reference {past.value:.4g})"
        return Decision(self.name, "crossed", figures, past)


@dataclass(frozen=True)
class PrivacyMatch:
    """Ends a run at the first time that its membership AUC is that of the reference, or has passed it.

    The AUC is MUSE's, P(held-out text is likelier to be a member than one of the forget set): 0 where the forget set is
    memorised, 1 where it stands out as unlearned. It is approached from below, and going on only makes it stand out.
    """

    reference: float
    tolerance: float = 0.05
    metric: str = "auc"
    name: str = "privacy_match"

    def judge(self, history: Sequence[Measurement]) -> Decision | None:
        """Return ``matched`` within the tolerance, ``crossed`` above it."""
        value = history[-1][self.metric]
        detail = f"{self.metric} {value:.4g} (reference {self.reference:.4g})"
        if abs(value - self.reference) <= self.tolerance:
            return Decision(self.name, "matched", detail)
        if value < self.reference or math.isnan(value):
            return None
        return Decision(self.name, "crossed", detail, Target(self.metric, self.reference, self.tolerance))


@dataclass(frozen=True)
class HoldoutMatch:
    """Ends a run when the losses of the forget set are distributed as those of held-out texts: no retraining.

    The two-sample Kolmogorov-Smirnov test cannot tell them apart at ``significance``, or the mean of the forget set has
    passed the other.
    """

    significance: float = 0.05
    name: str = "holdout_match"

    def judge(self, history: Sequence[Measurement]) -> Decision | None:
        """Return ``matched`` where the test does not reject, ``crossed`` where the forget set has the higher losses."""
        forget, holdout = history[-1].losses["forget"], history[-1].losses["holdout"]
        if not all(map(math.isfinite, (*forget, *holdout))):
            return None
        test: Any = stats.ks_2samp(forget, holdout)
        p = float(test.pvalue)
        detail = f"Kolmogorov-Smirnov p {p:.3g} (at least {self.significance:g})"
        if p > self.significance:
            return Decision(self.name, "matched", detail)
        gap = sum(forget) / len(forget) - sum(holdout) / len(holdout)
        if gap > 0:
            return Decision(self.name, "crossed", detail, Target("loss_gap", 0.0, 0.0))
        return None


@dataclass(frozen=True)
class UtilityFloor:
    """Ends a run as soon as its utility falls below the reference's: what it has forgotten by then is partial."""

    reference: float
    tolerance: float = 0.0
    metric: str = "utility"
    name: str = "utility_floor"

    def judge(self, history: Sequence[Measurement]) -> Decision | None:
        """Return ``floor`` below it."""
        value = history[-1][self.metric]
        if value >= self.reference - self.tolerance or math.isnan(value):
            return None
        return Decision(self.name, "floor", f"{self.metric} {value:.4g} (reference {self.reference:.4g})")


@dataclass(frozen=True)
class DivergenceGuard:
    """Ends a run whose model is broken.

    The loss on the forget set exceeds that of guessing, ln V, by ``margin`` nats a token; a metric is not a number; or
    more than a share ``repetition`` of what it generates repeats what it has said.
    """

    vocabulary: int
    margin: float = 2.0
    repetition: float = 0.5
    name: str = "divergence_guard"

    def judge(self, history: Sequence[Measurement]) -> Decision | None:
        """Return ``diverged`` if it is."""
        values = history[-1].values
        for metric, value in values.items():
            if not math.isfinite(value):
                return Decision(self.name, "diverged", f"{metric} is {value}")
        most = math.log(self.vocabulary) + self.margin
        if values.get("forget_nll", 0.0) > most:
            return Decision(
                self.name, "diverged", f"forget_nll {values['forget_nll']:.4g} (at most {most:.4g})"
            )
        if values.get("repetition", 0.0) > self.repetition:
            detail = f"repetition {values['repetition']:.4g} (at most {self.repetition:g})"
            return Decision(self.name, "diverged", detail)
        return None
