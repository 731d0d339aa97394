"""What an attack is, and what it does to one model: scores of the same items before and after."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from palimpsest.errors import FailedPrecondition, InvalidArgument, PalimpsestError, Reason
from palimpsest.progress import NullProgress, Progress
from palimpsest.training.adapters import is_attached
from palimpsest.training.saving import is_finite

Scores = Callable[[nn.Module], Mapping[str, NDArray[np.float64]]]
"""Scores a model: for each metric, a number for each of its items, always in the same order."""


FLOAT32 = "float32"
"""The precision that models are trained in, and of attacks that do not say another."""

_SPEAKS_OF_THE_MODEL = {Reason.TRAINING_DIVERGED, Reason.METRIC_NOT_FINITE, Reason.ATTACK_INVALID}
"""Reasons of a FailedPrecondition that say what an attack met, and nothing against the other attacks."""


@contextmanager
def unchanged(module: nn.Module) -> Iterator[nn.Module]:
    """Leave the weights as they are: for attacks that ask in another way."""
    yield module


@dataclass(frozen=True)
class Attack:
    """A way to look for what an unlearned model still holds.

    Attributes
    ----------
    name
        Such as ``int4/32``.
    changed
        Changes a model's weights while its context is open, and restores them bit for bit afterwards.
    scores
        How the changed model is scored; None: as the model itself. It may leave metrics out.
    measured
        For each metric, the positions of the items that count, as others were part of the attack; a metric that is not
        named counts all of its items.
    allowed
        Mean recovery over an attacked retrained model that is still tolerated, in units of the metric; None: less than
        what counts as recovery by that metric.
    precision
        How the weights are stored while the attack lasts.
    metrics
        Names of the metrics that its scores have; None: those of the model's own scores.
    """

    name: str
    changed: Callable[[nn.Module], AbstractContextManager[nn.Module]] = unchanged
    scores: Scores | None = None
    measured: Mapping[str, Sequence[int]] | None = None
    allowed: float | None = None
    precision: str = FLOAT32
    metrics: Sequence[str] | None = None


@dataclass(frozen=True)
class Failure:
    """Why an attack could not be measured on a model.

    Attributes
    ----------
    reason
        Of the error, such as ``TRAINING_DIVERGED``.
    message
        For people; nothing of any text is in it.
    """

    reason: str
    message: str


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an attack did to one model.

    Attributes
    ----------
    attack
        Its name.
    before, after
        For each metric, float64 [items measured]: scores of the model as it is, and under attack.
    failure
        Why there are no scores under attack; None: there are.
    """

    attack: str
    before: Mapping[str, NDArray[np.float64]]
    after: Mapping[str, NDArray[np.float64]]
    failure: Failure | None = None

    def facts(self) -> dict[str, Any]:
        """For a file; JSON keeps every number as it is."""
        return {
            "attack": self.attack,
            "before": {name: values.tolist() for name, values in self.before.items()},
            "after": {name: values.tolist() for name, values in self.after.items()},
            "failure": None if self.failure is None else vars(self.failure),
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Outcome":
        """From a file."""

        def scores(part: str) -> dict[str, NDArray[np.float64]]:
            return {name: np.array(values, dtype=np.float64) for name, values in facts[part].items()}

        failure = None if facts["failure"] is None else Failure(**facts["failure"])
        return cls(facts["attack"], scores("before"), scores("after"), failure)


def attack_model(
    module: nn.Module,
    scores: Scores,
    attacks: Sequence[Attack],
    progress: Progress | None = None,
    *,
    known: Mapping[str, Outcome] | None = None,
    keep: Callable[[Outcome], None] | None = None,
) -> dict[str, Outcome]:
    """Put one model through attacks; its weights are the same afterwards.

    An attack that breaks the model is no fault of the request: its outcome has a failure in place of scores. That is so
    where its training diverges, where the attacked model puts out NaN, and where the model cannot be stored as the
    attack would.

    Run it on the unlearned model, on retrained ones and on one that never knew, each in turn:
    :func:`services.unlearning.attacks.table.table` compares what comes out.

    Parameters
    ----------
    module
        The model.
    scores
        How it is scored.
    attacks
        Which to run; their names differ.
    progress
        Told after each attack.
    known
        Outcomes that an interrupted call gave to ``keep``, by attack: these are not run again.
    keep
        Given each outcome as soon as there is one.

    Returns
    -------
    dict
        Outcome of each attack, by its name, in the order given.

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: two attacks of one name, or an attack none of whose metrics or items are scored.
        SCORES_INVALID: scores that are not one finite number an item, or not of the same items before and after.
    FailedPrecondition
        ADAPTER_ATTACHED: the model has an adapter that is not merged, which nobody would store as the attack does.
    """
    if is_attached(module):
        message = "The model has an adapter that is not merged. Merge it, then attack what will be stored."
        raise FailedPrecondition(Reason.ADAPTER_ATTACHED, message)
    names = [attack.name for attack in attacks]
    if len(set(names)) < len(names):
        raise InvalidArgument(Reason.ATTACK_INVALID, f"Attacks need different names; got {', '.join(names)}.")
    progress, known = progress or NullProgress(), known or {}
    found: dict[str, Outcome] = {}
    before = None
    for number, attack in enumerate(attacks, 1):
        if attack.name in known:
            found[attack.name] = known[attack.name]
            continue
        if before is None:
            progress.step(0, len(attacks) + 1, "scoring the model before attacks")
            before = checked(scores(module))
        progress.step(number, len(attacks) + 1, f"attack {attack.name}")
        found[attack.name] = _attacked(module, scores, attack, before)
        if keep is not None:
            keep(found[attack.name])
    progress.step(len(attacks) + 1, len(attacks) + 1)
    return found


def _attacked(
    module: nn.Module, scores: Scores, attack: Attack, before: Mapping[str, NDArray[np.float64]]
) -> Outcome:
    try:
        with attack.changed(module) as changed:
            require_finite_weights(attack, changed)
            after = _finite(attack, (attack.scores or scores)(changed))
    except FailedPrecondition as error:
        if error.reason not in _SPEAKS_OF_THE_MODEL:
            raise
        return failed(attack, before, error)
    return _outcome(attack, before, after)


def checked(scores: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return scores as float64 arrays.

    Raises
    ------
    InvalidArgument
        SCORES_INVALID: a metric's scores are not one finite number an item.
    """
    found = {}
    for metric, values in scores.items():
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 1 or not np.isfinite(array).all():
            message = (
                f"Scores of {metric} must be one finite number for each item; got the shape {array.shape} and "
                f"{int((~np.isfinite(array)).sum())} that are not finite."
            )
            raise InvalidArgument(Reason.SCORES_INVALID, message)
        found[metric] = array
    return found


def failed(attack: Attack, before: Mapping[str, NDArray[np.float64]], error: PalimpsestError) -> Outcome:
    """Return the outcome of an attack that could not be measured; the scores before are those of all items."""
    names = before if attack.metrics is None else [name for name in before if name in attack.metrics]
    kept = {name: before[name] for name in names}
    return Outcome(attack.name, kept, {}, Failure(error.reason, error.message))


def require_finite_weights(attack: Attack, module: nn.Module) -> None:
    """Refuse to score what an attack has destroyed: some metrics come out finite all the same, and nothing recovered.

    Raises
    ------
    FailedPrecondition
        METRIC_NOT_FINITE.
    """
    if not is_finite(module):
        message = f"Under {attack.name}, weights of the model are not finite."
        raise FailedPrecondition(Reason.METRIC_NOT_FINITE, message)


def _finite(attack: Attack, scores: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Scores under attack; those that are not finite say that the attack broke the model."""
    for metric, values in scores.items():
        broken = int((~np.isfinite(np.asarray(values, dtype=np.float64))).sum())
        if broken:
            message = f"Under {attack.name}, {broken} scores of {metric} are not finite."
            raise FailedPrecondition(Reason.METRIC_NOT_FINITE, message)
    return checked(scores)


def _outcome(
    attack: Attack, before: Mapping[str, NDArray[np.float64]], after: Mapping[str, NDArray[np.float64]]
) -> Outcome:
    kept_before, kept_after = {}, {}
    for metric in before:
        if metric not in after:
            continue
        if before[metric].shape != after[metric].shape:
            message = (
                f"The attack {attack.name} scored {len(after[metric])} items by {metric}, and the model itself was "
                f"scored on {len(before[metric])}; score the same items."
            )
            raise InvalidArgument(Reason.SCORES_INVALID, message)
        items = (attack.measured or {}).get(metric, range(len(before[metric])))
        chosen = np.array(items, dtype=np.int64)
        if len(chosen):
            kept_before[metric], kept_after[metric] = before[metric][chosen], after[metric][chosen]
    if not kept_after:
        message = f"The attack {attack.name} leaves no metric with items to measure; give it fewer items to learn from."
        raise InvalidArgument(Reason.ATTACK_INVALID, message)
    return Outcome(attack.name, kept_before, kept_after)
