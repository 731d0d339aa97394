"""The requests that one run is for, and the union of their forget sets."""

from pathlib import Path
from typing import Any

import structlog

from palimpsest.errors import Aborted, DataLoss, InvalidArgument, NotFound
from palimpsest.jobs import JobContext
from palimpsest.models.tokenizers import load_tokenizer
from services.unlearning.algorithms.refusals import refusals_for
from services.unlearning.removal.datasets.holdout import seen_in_training
from services.unlearning.removal.datasets.sets import EncodedSet, read_set
from services.unlearning.removal.datasets.union import has_room, union_of
from services.unlearning.removal.plan import ResolvedPlan, encoder_of
from services.unlearning.removal.together.decision import ALONE, DECIDED, Together
from services.unlearning.requests.alike import MOST_TOGETHER
from services.unlearning.requests.records import PREFIX, RemovalRecord, run_owner
from services.unlearning.workspace import Workspace

_log = structlog.get_logger(__name__)


class Group:
    """What one request is trained with.

    Parameters
    ----------
    job
        The attempt.
    record, plan
        The request, and its plan resolved.
    """

    def __init__(self, job: JobContext, record: RemovalRecord, plan: ResolvedPlan) -> None:
        self._job, self._record, self._plan = job, record, plan
        self._encoded: dict[str, EncodedSet] = {plan.plan.forget: plan.forget}

    def formed(self, others: list[RemovalRecord]) -> Together:
        """Form the group of those that wait and can be trained on, the request itself first.

        No set of the union has a text of the retain set, for that is counted by single entries, and each plan was
        checked by itself. Of the holdout set it may have more than each has alone.
        """
        plan, sets = self._plan, {self._record.id: self._plan.forget}
        records = [self._record]
        for each in others:
            if len(records) == MOST_TOGETHER:
                break
            encoded = self._fitting(each)
            if encoded is not None and has_room([*sets.values(), encoded]):
                sets[each.id] = encoded
                records.append(each)
        if len(records) == 1:
            return ALONE
        union = union_of(sets)
        holdout = {field: each.source for field, each in plan.sets.items() if field == "holdout"}
        if seen_in_training({"forget": union.source, **holdout}):
            _log.warning("requests are not trained together: of the holdout set their union has too much")
            return ALONE
        return Together(
            tuple(each.message.name for each in records),
            tuple(each.message.plan.forget for each in records),
            plan.training_on(union).recipe.steps,
        )

    def refer(self, digest: str) -> None:
        """Keep an artefact until the run has ended.

        Raises
        ------
        Aborted
            ARTIFACT_IN_USE: it is being deleted.
        """
        owner = run_owner(self._job.principal, self._record.id)
        self._job.resources.artifacts.references.add(owner, [digest], self._job.principal)

    def training(self, found: Together) -> ResolvedPlan:
        """Return the plan as it is trained: on the union of the forget sets of all.

        Raises
        ------
        NotFound, InvalidArgument, DataLoss
            The forget set of one of them is gone or damaged.
        """
        names = (each.removeprefix(PREFIX) for each in found.requests)
        sets = dict(zip(names, map(self._set, found.forget), strict=True))
        return self._plan.training_on(union_of(sets)).with_steps(found.steps)

    def _fitting(self, other: RemovalRecord) -> EncodedSet | None:
        """The forget set of another request, kept from here on; None if it cannot be trained on."""
        digest, own = other.message.plan.forget, self._job.resources
        if Workspace(own.settings, self._job.principal, other.id).read(DECIDED):
            return None  # it has begun before, and was held since
        try:
            self.refer(digest)
            found = self._set(digest)
            if "alternatives" in self._plan.algorithm.needs(self._plan.parameters):
                refusals_for(found.examples, self._tokenizer())
            return found
        except (Aborted, DataLoss, InvalidArgument, NotFound) as error:
            _log.warning("a request is not trained together with another", removal=other.id, why=error.reason)
            return None

    def _set(self, digest: str) -> EncodedSet:
        if digest not in self._encoded:
            encode = encoder_of(self._plan.plan, self._plan.model, self._tokenizer())
            self._encoded[digest] = encode(read_set(self._job.resources.artifacts, digest, "forget"))
        return self._encoded[digest]

    def _tokenizer(self) -> Any:
        return load_tokenizer(Path(self._plan.model.path))
