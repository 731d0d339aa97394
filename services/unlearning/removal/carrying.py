"""Carrying a request out, from its data to its certificate. Every step leaves what a later attempt goes on from."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.catalogue import quoted
from palimpsest.errors import AlreadyExists, FailedPrecondition, NotFound, Reason
from palimpsest.jobs import JobContext
from palimpsest.models import verify
from palimpsest.training.history import History
from palimpsest.training.saving import save_model
from services.unlearning.attacks.outcomes import Attack, Outcome
from services.unlearning.attacks.table import Row, table
from services.unlearning.attesting import Attestation
from services.unlearning.metrics.scores import Score
from services.unlearning.removal import reporting
from services.unlearning.removal.attacking import METRICS, attacked, attacks_of
from services.unlearning.removal.deciding import Decision, decide, verdict_number
from services.unlearning.removal.measuring import Items, items_of, measure
from services.unlearning.removal.models import loaded, register_unlearned
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.removal.requirements import require_free
from services.unlearning.removal.sets import manifest_of
from services.unlearning.removal.stating import statement, stores_digest
from services.unlearning.removal.stores import StorePurger
from services.unlearning.removal.training import make_weights
from services.unlearning.requests.line import Line
from services.unlearning.requests.records import RemovalRecord
from services.unlearning.verdicts import Verdict
from services.unlearning.workspace import Workspace

MANIFEST_TYPE = "application/jsonl"
_TRAINED = "trained.json"
_LONG, _SHORT = 600.0, 5.0
"""Seconds to wait for a purge: longer where it cannot be waiting for this job's own place at the worker."""


@dataclass(frozen=True)
class Measured:
    """What was found out about the models."""

    before: Sequence[Score]
    after: Sequence[Score]
    references: dict[str, Sequence[Score]]
    attacks: Sequence[Row]
    decision: Decision


class Removal:
    """One attempt at one request.

    Parameters
    ----------
    job
        The attempt.
    record
        The request.
    plan
        Its plan, resolved.
    fence
        Its number on the line of the lineage.
    """

    def __init__(
        self, job: JobContext, record: RemovalRecord, plan: ResolvedPlan, line: Line, fence: int
    ) -> None:
        self._job, self._record, self._plan = job, record, plan
        self._line, self._fence = line, fence
        self._progress, self._resources = job.progress, job.resources
        self._space = Workspace(job.resources.settings, job.principal, record.id)
        self._attestation = Attestation(job.resources.settings, job.principal)

    def run(self) -> pb.Result:
        """Carry the request out.

        Raises
        ------
        PalimpsestError
            See CreateRemovalRequest.
        Postponed, Drain, LeaseLost
            The attempt stops here; a later one goes on.
        """
        plan, progress = self._plan, self._progress
        progress.step(0, 1, "resolving")
        verify(plan.model, self._resources.settings, progress)
        for reference in plan.references:
            verify(reference, self._resources.settings, progress)
        if plan.attacks.never_knew is not None:
            verify(plan.attacks.never_knew, self._resources.settings, progress)
        plan.require_no_overlap()
        require_free(self._resources.models, plan.plan, self._space.registered)
        manifest = self._manifest()
        stores = self._purge()
        history = self._train()
        result = reporting.begun(plan, manifest, stores, history)
        measured = None if history.diverged else self._measure()
        if measured is None or measured.decision.verdict is Verdict.DIVERGED:
            result.verdict = verdict_number(Verdict.DIVERGED)  # type: ignore[assignment]
            self._attestation.note(self._record.id, "DIVERGED")
            return result
        progress.step(0, 1, "deciding")
        reporting.add_measured(result, measured.before, measured.after, measured.references)
        reporting.add_attacks(result, measured.attacks)
        reporting.add_decision(result, measured.decision)
        self._line.require(self._fence)
        made = register_unlearned(
            plan,
            self._record.message.name,
            self._space,
            self._resources.models,
            self._resources.settings,
            progress,
        )
        result.new_model_fingerprint = made.fingerprint
        self._attestation.note(self._record.id, "MODEL_MADE", made.fingerprint)
        facts = statement(plan, result, measured.decision, made)
        certificate = self._attestation.issue(self._record.id, facts)
        result.certificate = certificate.statement.fingerprint()
        return result

    def _manifest(self) -> str:
        """Keep the frozen list of what is removed as an artefact of the caller's; returns its digest."""
        data = manifest_of(self._plan.forget, self._record.salt)
        digest = self._resources.artifacts.put_bytes(data, MANIFEST_TYPE).digest
        # For as long as the record of the request, which names it.
        owner = f"removal/{quoted(self._job.principal)}/{self._record.id}"
        self._resources.artifacts.references.add(owner, [digest], self._job.principal)
        self._attestation.note_once(self._record.id, "RESOLVED", digest)
        return digest

    def _purge(self) -> list[pb.StoreEvidence]:
        plan = self._plan.plan
        if not (plan.corpora or plan.ngram_stores or plan.contexts):
            return []
        from palimpsest.client.peers import client_for

        settings = self._resources.settings
        with client_for(self._job.principal, settings) as client:
            purger = StorePurger(
                client,
                self._progress,
                self._space.store,
                self._space.keep_store,
                _LONG if settings.queue_for("cpu") != settings.queue_for("train") else _SHORT,
            )
            found = purger.purge(plan)
        digest = stores_digest(found)
        try:
            self._attestation.note_once(self._record.id, "PURGED", digest)
        except AlreadyExists:  # by an attempt before this one, after which a store had it again
            self._attestation.note(self._record.id, "PURGED", digest)
        return found

    def _train(self) -> History:
        """Make the new model's folder, unless an earlier attempt did."""
        known = self._space.read(_TRAINED)
        if known is not None:
            history = History.of(known)
            if history.diverged or self._is_made():
                return history
            # Registering it was interrupted, which deletes it. Made again, it may differ in bits on another machine.
            self._space.drop("after.json")
        self._progress.step(0, 0, "loading the model")
        model: Any = loaded(self._plan.model, self._plan)
        items = items_of(self._plan, model.tokenizer)
        self._scores("before", model, items)
        history = make_weights(self._plan, model.module, model.tokenizer, self._space, self._progress)
        if not history.diverged and not self._space.made.exists():
            self._line.require(self._fence)
            partial = self._space.made.with_name(f"{self._space.made.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            save_model(model.module, Path(self._plan.model.path), partial)
            partial.rename(self._space.made)
        self._space.write(_TRAINED, history.facts())
        return history

    def _is_made(self) -> bool:
        """Whether the new model is in the working folder, or registered by an attempt that ended then."""
        if self._space.made.exists():
            return True
        try:
            there = self._resources.models.get(self._plan.plan.new_model)
        except NotFound:
            return False
        return there.path == str(self._space.registered)

    def _measure(self) -> Measured | None:
        """Measure and attack; None for a model that puts out no numbers."""
        plan = self._plan
        after: Any = self._load_made()
        items = items_of(plan, after.tokenizer)
        attacks = attacks_of(plan, items, after.tokenizer, after.module, self._progress)
        self._progress.step(0, 1, "evaluating")
        try:
            scores = self._scores("after", after, items)
        except FailedPrecondition as error:
            if error.reason != Reason.METRIC_NOT_FINITE:
                raise
            return None
        self._progress.step(0, 1, "attacking")
        outcomes = attacked(after.module, after.tokenizer, items, attacks, self._progress)
        del after
        references: dict[str, Sequence[Score]] = {}
        attacked_too: list[dict[str, Outcome]] = []
        for number, record in enumerate(plan.references):
            self._progress.step(number, len(plan.references), "measuring references")
            reference: Any = loaded(record, plan)
            references[record.model_id] = self._scores(f"reference-{number}", reference, items)
            if outcomes:
                attacked_too.append(
                    attacked(reference.module, reference.tokenizer, items, attacks, self._progress)
                )
            del reference
        before = self._known_scores("before")
        assert before is not None
        rows: list[Row] = []
        if outcomes:
            never_knew = self._attacked_never_knew(items, attacks)
            rows = table(
                attacks, METRICS, outcomes, attacked_too, never_knew, plan.attacks.seed, list(references)
            )
        return Measured(before, scores, references, rows, decide(before, scores, references, rows))

    def _attacked_never_knew(self, items: Items, attacks: Sequence[Attack]) -> dict[str, Outcome] | None:
        record = self._plan.attacks.never_knew
        if record is None:
            return None
        self._progress.step(0, 1, "attacking the model that never knew")
        model: Any = loaded(record, self._plan)
        return attacked(model.module, model.tokenizer, items, attacks, self._progress)

    def _load_made(self) -> Any:
        """Load the new model from where it is: in the working folder, or registered by an attempt that ended then."""
        folder = self._space.made
        if not folder.exists():
            folder = Path(self._resources.models.get(self._plan.plan.new_model).path)
        return loaded(folder, self._plan)

    def _scores(self, name: str, model: Any, items: Items) -> list[Score]:
        """Measure a model once in all attempts."""
        known = self._known_scores(name)
        if known is None:
            known = measure(model.module, model.tokenizer, items, self._progress)
            self._space.write(f"{name}.json", reporting.scores_to_json(known))
        return known

    def _known_scores(self, name: str) -> list[Score] | None:
        found = self._space.read(f"{name}.json")
        return None if found is None else reporting.scores_from_json(found)
