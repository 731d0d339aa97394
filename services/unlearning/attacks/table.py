"""The table of attacks: what each brings back in the unlearned model, over what it brings anywhere else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.attacks.outcomes import FLOAT32, Attack, Failure, Outcome
from services.unlearning.attacks.recovery import Interval, Metric, excess, recovered, recovery

UNLEARNED, NEVER_KNEW = "after", "never_knew"
"""What the unlearned model and the one that never knew are called among those that were not measured."""


@dataclass(frozen=True)
class Unmeasured:
    """A model that an attack could not be measured on, by its name, and why."""

    model: str
    failure: Failure


@dataclass(frozen=True)
class Row:
    """One attack by one metric.

    Attributes
    ----------
    attack, metric
        Their names.
    before, after
        Mean score of the unlearned model as it is, and under attack.
    gain
        Mean gain of knowledge, in units of the metric; positive whichever way the metric points.
    injected
        Mean gain of the model that never knew, at least 0: what the attack itself teaches. None: none was attacked.
    net
        Gain less what was injected.
    retrained
        Mean gain of each retrained model under the same attack.
    excess
        Gain over that of the retrained models; None: none was attacked.
    recovered
        Whether the net gain reaches the metric's threshold, with its interval above zero.
    tolerated
        Whether the excess is within what the attack allows, or its interval reaches down to zero. None as ``excess``.
    bound
        The largest gain that does not count against the removal. With retrained models: what they gain on average, at
        least 0, plus what the attack allows or, if that is more, what the interval of the excess leaves to chance.
        Without: the largest that is not ``recovered``. NaN where nothing was measured.
    precision
        How the weights were stored while they were attacked.
    unmeasured
        Models that the attack could not be measured on. Where the unlearned one is among them, nothing is known:
        ``after`` and what follows from it are NaN, and ``measured`` is False. Others are left out of what is compared.
    """

    attack: str
    metric: str
    before: float
    after: float
    gain: Interval
    injected: float | None
    net: Interval
    retrained: tuple[float, ...]
    excess: Interval | None
    recovered: bool
    tolerated: bool | None
    bound: float
    precision: str = FLOAT32
    unmeasured: tuple[Unmeasured, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether the attack was measured on the unlearned model: if not, it speaks neither for nor against it."""
        return all(each.model != UNLEARNED for each in self.unmeasured)


def table(
    attacks: Sequence[Attack],
    metrics: Sequence[Metric],
    unlearned: Mapping[str, Outcome],
    retrained: Sequence[Mapping[str, Outcome]] = (),
    never_knew: Mapping[str, Outcome] | None = None,
    seed: int = 0,
    names: Sequence[str] = (),
) -> list[Row]:
    """Compare an unlearned model under attack with the models that do not hold what was removed.

    Parameters
    ----------
    attacks
        In the order of the rows.
    metrics
        Of each attack, those that it measured get a row.
    unlearned, never_knew
        What :func:`services.unlearning.attacks.outcomes.attack_model` returned for the model, and for one that has seen
        neither what was removed nor anything that tells of it.
    retrained
        The same for models trained without what was removed.
    seed
        Of the resampling.
    names
        Of the retrained models, for rows that lack one; none: they are numbered from 1.

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: an attack that a model was not put through. SCORES_INVALID: other items than the unlearned's.
    """
    names = names or [f"retrained {number}" for number in range(1, len(retrained) + 1)]
    rows = []
    for attack in attacks:
        outcome = _of(attack, unlearned, "the unlearned model")
        references = [(name, _of(attack, found, name)) for name, found in zip(names, retrained, strict=True)]
        never = [(NEVER_KNEW, _of(attack, never_knew, "the model that never knew"))] if never_knew else []
        missing = tuple(
            Unmeasured(name, each.failure)
            for name, each in [(UNLEARNED, outcome), *references, *never]
            if each.failure is not None
        )
        for metric in metrics:
            if metric.name not in (outcome.before if outcome.failure else outcome.after):
                continue
            known, taught = _gains(attack, metric, references), _gains(attack, metric, never)
            rows.append(_row(attack, metric, outcome, known, taught, missing, seed))
    return rows


def _row(
    attack: Attack,
    metric: Metric,
    outcome: Outcome,
    references: Sequence[NDArray[np.float64]],
    never: Sequence[NDArray[np.float64]],
    missing: tuple[Unmeasured, ...],
    seed: int,
) -> Row:
    injected = max(0.0, float(never[0].mean())) if never else None
    known = tuple(float(reference.mean()) for reference in references)
    before = outcome.before[metric.name]
    if outcome.failure is not None:
        nothing = Interval(math.nan, math.nan, math.nan, 0)
        return Row(
            attack.name, metric.name, float(before.mean()), math.nan, nothing, injected, nothing, known, None,
            recovered=False, tolerated=None, bound=math.nan, precision=attack.precision, unmeasured=missing,
        )  # fmt: skip
    after = outcome.after[metric.name]
    gains = metric.gains(before, after)
    net = excess(gains, never, seed)
    over = excess(gains, references, seed) if references else None
    allowed = metric.threshold if attack.allowed is None else attack.allowed
    gain = recovery(gains, seed)
    back = recovered(net, metric)
    tolerated = None if over is None else over.value <= allowed or over.low <= 0.0
    if over is None:
        bound = _bound(gain, net, math.nextafter(metric.threshold, 0.0), holds=not back)
    else:
        bound = _bound(gain, over, allowed, holds=bool(tolerated))
    return Row(
        attack.name,
        metric.name,
        float(before.mean()),
        float(after.mean()),
        gain,
        injected,
        net,
        known,
        over,
        back,
        tolerated,
        bound,
        attack.precision,
        missing,
    )


def _bound(gain: Interval, compared: Interval, allowed: float, *, holds: bool) -> float:
    """The gain up to which a removal holds, ``compared`` being the gain less what is subtracted from it.

    In floating point the sum may miss a gain that lies on the bound, and who compares the two is to find the verdict.
    """
    bound = gain.value - compared.value + max(allowed, compared.value - compared.low)
    return max(bound, gain.value) if holds else min(bound, math.nextafter(gain.value, -math.inf))


def _gains(
    attack: Attack, metric: Metric, models: Sequence[tuple[str, Outcome]]
) -> list[NDArray[np.float64]]:
    """Gains of the models that the attack was measured on."""
    found = []
    for name, outcome in models:
        if outcome.failure is not None:
            continue
        if metric.name not in outcome.after:
            raise InvalidArgument(
                Reason.SCORES_INVALID, f"The attack {attack.name} on {name} was not scored by {metric.name}."
            )
        found.append(metric.gains(outcome.before[metric.name], outcome.after[metric.name]))
    return found


def _of(attack: Attack, outcomes: Mapping[str, Outcome], whose: str) -> Outcome:
    if attack.name not in outcomes:
        message = f"The attack {attack.name} was not run on {whose}; every model is put through every attack."
        raise InvalidArgument(Reason.ATTACK_INVALID, message)
    return outcomes[attack.name]
