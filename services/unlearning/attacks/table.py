"""The table of attacks: what each brings back in the unlearned model, over what it brings anywhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.attacks.outcomes import Attack, Outcome
from services.unlearning.attacks.recovery import Interval, Metric, excess, recovered, recovery


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


def table(
    attacks: Sequence[Attack],
    metrics: Sequence[Metric],
    unlearned: Mapping[str, Outcome],
    retrained: Sequence[Mapping[str, Outcome]] = (),
    never_knew: Mapping[str, Outcome] | None = None,
    seed: int = 0,
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

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: an attack that a model was not put through. SCORES_INVALID: other items than the unlearned's.
    """
    rows = []
    for attack in attacks:
        outcome = _of(attack, unlearned, "the unlearned model")
        for metric in metrics:
            if metric.name not in outcome.after:
                continue
            references = [
                _gains(attack, metric, found, f"retrained model {number}")
                for number, found in enumerate(retrained, 1)
            ]
            never = _gains(attack, metric, never_knew, "the model that never knew") if never_knew else None
            rows.append(_row(attack, metric, outcome, references, never, seed))
    return rows


def _row(
    attack: Attack,
    metric: Metric,
    outcome: Outcome,
    references: Sequence[NDArray[np.float64]],
    never: NDArray[np.float64] | None,
    seed: int,
) -> Row:
    before, after = outcome.before[metric.name], outcome.after[metric.name]
    gains = metric.gains(before, after)
    gain = recovery(gains, seed)
    net = gain if never is None else excess(gains, [never], seed)
    over = excess(gains, references, seed) if references else None
    allowed = metric.threshold if attack.allowed is None else attack.allowed
    return Row(
        attack.name,
        metric.name,
        float(before.mean()),
        float(after.mean()),
        gain,
        None if never is None else max(0.0, float(never.mean())),
        net,
        tuple(float(reference.mean()) for reference in references),
        over,
        recovered(net, metric),
        None if over is None else over.value <= allowed or over.low <= 0.0,
    )


def _gains(
    attack: Attack, metric: Metric, outcomes: Mapping[str, Outcome], whose: str
) -> NDArray[np.float64]:
    outcome = _of(attack, outcomes, whose)
    if metric.name not in outcome.after:
        raise InvalidArgument(
            Reason.SCORES_INVALID, f"The attack {attack.name} on {whose} was not scored by {metric.name}."
        )
    return metric.gains(outcome.before[metric.name], outcome.after[metric.name])


def _of(attack: Attack, outcomes: Mapping[str, Outcome], whose: str) -> Outcome:
    if attack.name not in outcomes:
        message = f"The attack {attack.name} was not run on {whose}; every model is put through every attack."
        raise InvalidArgument(Reason.ATTACK_INVALID, message)
    return outcomes[attack.name]
