"""What is measured of the models of a request, once in all attempts, and the verdict that follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.jobs import JobContext
from services.unlearning.attacks.outcomes import Attack, Outcome
from services.unlearning.attacks.table import Row, table
from services.unlearning.metrics.scores import Score
from services.unlearning.removal import reporting
from services.unlearning.removal.attacking import METRICS, attacked, attacks_of
from services.unlearning.removal.deciding import Decision, decide
from services.unlearning.removal.earlier import EarlierRequests
from services.unlearning.removal.measuring import Items, items_of, measure
from services.unlearning.removal.models import loaded
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.requests.history import Predecessors
from services.unlearning.workspace import Workspace

_AFTER, _EARLIER, _ATTACKED = "after.json", "earlier.json", "attacked.json"


@dataclass(frozen=True)
class Measured:
    """What was found out about the models."""

    before: Sequence[Score]
    after: Sequence[Score]
    references: dict[str, Sequence[Score]]
    attacks: Sequence[Row]
    earlier: Sequence[pb.EarlierRequest]
    decision: Decision


class Judge:
    """Measures the models of a request. What an earlier attempt found is in the request's working folder.

    Parameters
    ----------
    job
        The attempt.
    plan
        Resolved.
    past
        The requests before it.
    space
        Keeps what was found.
    """

    def __init__(self, job: JobContext, plan: ResolvedPlan, past: Predecessors, space: Workspace) -> None:
        self._job, self._plan, self._past, self._space = job, plan, past, space
        self._progress = job.progress

    @property
    def knows_before(self) -> bool:
        """Whether the model before is measured."""
        return self._known_scores("before.json") is not None

    def before(self, model: Any) -> list[Score]:
        """Measure the model before."""
        return self._scores("before.json", model, items_of(self._plan.measured_on, model.tokenizer))

    def forget_made(self) -> None:
        """Measure the new model again: it is made again, and may differ in bits."""
        for name in (_AFTER, _EARLIER, _ATTACKED):
            self._space.drop(name)

    def measured(self, made: Path) -> Measured | None:
        """Measure and attack the new model and the references; None for a model that puts out no numbers.

        Parameters
        ----------
        made
            Folder of the new model.
        """
        plan = self._plan
        after: Any = loaded(made, plan)
        items = items_of(plan.measured_on, after.tokenizer)
        attacks = attacks_of(plan, items, after.tokenizer, after.module, self._progress)
        self._progress.step(0, 1, "evaluating")
        try:
            scores = self._scores(_AFTER, after, items)
            earlier = self._earlier(after)
        except FailedPrecondition as error:
            if error.reason != Reason.METRIC_NOT_FINITE:
                raise
            return None
        self._progress.step(0, 1, "attacking")
        outcomes = self._attacked(_ATTACKED, after, items, attacks)
        del after
        references: dict[str, Sequence[Score]] = {}
        attacked_too: list[dict[str, Outcome]] = []
        for number, record in enumerate(plan.references):
            self._progress.step(number, len(plan.references), "measuring references")
            reference: Any = loaded(record, plan)
            references[record.model_id] = self._scores(f"reference-{number}.json", reference, items)
            if outcomes:
                attacked_too.append(
                    self._attacked(f"attacked-reference-{number}.json", reference, items, attacks)
                )
            del reference
        before = self._known_scores("before.json")
        assert before is not None
        rows: list[Row] = []
        if outcomes:
            never_knew = self._attacked_never_knew(items, attacks)
            names = list(references)
            rows = table(attacks, METRICS, outcomes, attacked_too, never_knew, plan.attacks.seed, names)
        reemerged = any(each.reemerged for each in earlier)
        decision = decide(before, scores, references, rows, reemerged=reemerged)
        return Measured(before, scores, references, rows, earlier, decision)

    def _attacked_never_knew(self, items: Items, attacks: Sequence[Attack]) -> dict[str, Outcome] | None:
        record = self._plan.attacks.never_knew
        if record is None:
            return None
        self._progress.step(0, 1, "attacking the model that never knew")
        model: Any = loaded(record, self._plan)
        return self._attacked("attacked-never-knew.json", model, items, attacks)

    def _attacked(self, name: str, model: Any, items: Items, attacks: Sequence[Attack]) -> dict[str, Outcome]:
        return attacked(model.module, model.tokenizer, items, attacks, self._progress, self._space, name)

    def _earlier(self, model: Any) -> list[pb.EarlierRequest]:
        """Look for what earlier requests removed, once in all attempts."""
        known: dict[str, Any] = self._space.read(_EARLIER) or {}

        def keep(removal_id: str, values: Mapping[str, float]) -> None:
            known[removal_id] = dict(values)
            self._space.write(_EARLIER, known)

        earlier = EarlierRequests(
            self._past.requests,
            self._job.resources.artifacts,
            self._job.principal,
            self._plan.model.context_length,
        )
        return earlier.measured(model.module, model.tokenizer, self._progress, known.get, keep)

    def _scores(self, name: str, model: Any, items: Items) -> list[Score]:
        """Measure a model once in all attempts."""
        known = self._known_scores(name)
        if known is None:
            known = measure(model.module, model.tokenizer, items, self._progress)
            self._space.write(name, reporting.scores_to_json(known))
        return known

    def _known_scores(self, name: str) -> list[Score] | None:
        found = self._space.read(name)
        return None if found is None else reporting.scores_from_json(found)
