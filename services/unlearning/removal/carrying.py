"""Carrying a request out, from its data to its certificate. Every step leaves what a later attempt goes on from."""

import shutil
from pathlib import Path
from typing import Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.catalogue import quoted
from palimpsest.errors import AlreadyExists, NotFound
from palimpsest.jobs import JobContext
from palimpsest.models import verify
from palimpsest.training.history import History
from palimpsest.training.saving import save_model
from services.unlearning.attesting import Attestation
from services.unlearning.removal import reporting
from services.unlearning.removal.curves import CURVE_TYPE, LOOKS, curve_of
from services.unlearning.removal.datasets.sets import manifest_of
from services.unlearning.removal.deciding import verdict_number
from services.unlearning.removal.judging import Judge
from services.unlearning.removal.models import loaded, register_unlearned
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.removal.requirements import require_free
from services.unlearning.removal.searching import searched
from services.unlearning.removal.stating import statement, stores_digest
from services.unlearning.removal.stores import StorePurger
from services.unlearning.removal.training import make_weights
from services.unlearning.requests.history import Predecessors
from services.unlearning.requests.line import Line
from services.unlearning.requests.records import RemovalRecord
from services.unlearning.verdicts import Verdict
from services.unlearning.workspace import Workspace

MANIFEST_TYPE = "application/jsonl"
_TRAINED = "trained.json"
_LONG, _SHORT = 600.0, 5.0
"""Seconds to wait for a purge: longer where it cannot be waiting for this job's own place at the worker."""


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
    past
        The requests before it.
    """

    def __init__(
        self,
        job: JobContext,
        record: RemovalRecord,
        plan: ResolvedPlan,
        line: Line,
        fence: int,
        past: Predecessors,
    ) -> None:
        self._job, self._record, self._plan = job, record, plan
        self._line, self._fence = line, fence
        self._progress, self._resources = job.progress, job.resources
        self._space = Workspace(job.resources.settings, job.principal, record.id)
        self._past = past
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
        others = [*plan.references, plan.begun_with, plan.attacks.never_knew]
        for other in filter(None, others):
            verify(other, self._resources.settings, progress)
        plan.require_no_overlap()
        require_free(self._resources.models, plan.plan, self._space.registered)
        manifest = self._manifest()
        stores = self._purge()
        plan, trials = searched(plan, self._space, progress)
        self._plan, self._judge = plan, Judge(self._job, plan, self._past, self._space)
        history = self._train()
        result = reporting.begun(plan, manifest, stores, history)
        result.trials.extend(trials)
        if curve := curve_of(history, self._space.read(LOOKS)):
            result.curve = self._keep(curve, CURVE_TYPE)
        measured = None if history.diverged else self._judge.measured(self._made())
        if measured is None or measured.decision.verdict is Verdict.DIVERGED:
            result.verdict = verdict_number(Verdict.DIVERGED)  # type: ignore[assignment]
            self._attestation.note(self._record.id, "DIVERGED")
            return result
        progress.step(0, 1, "deciding")
        reporting.add_measured(result, measured.before, measured.after, measured.references)
        reporting.add_attacks(result, measured.attacks)
        reporting.add_past(result, plan, measured.earlier, self._past)
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
        digest = self._keep(data, MANIFEST_TYPE)
        self._attestation.note_once(self._record.id, "RESOLVED", digest)
        return digest

    def _keep(self, data: bytes, media_type: str) -> str:
        """Keep bytes as an artefact of the caller's for as long as the record of the request, which names it."""
        digest = self._resources.artifacts.put_bytes(data, media_type).digest
        owner = f"removal/{quoted(self._job.principal)}/{self._record.id}"
        self._resources.artifacts.references.add(owner, [digest], self._job.principal)
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
            self._judge.forget_made()
        self._progress.step(0, 0, "loading the model")
        model: Any = loaded(self._plan.model, self._plan)
        self._judge.before(model)
        if self._plan.start is not None:
            del model
            model = loaded(self._plan.start, self._plan)
        history = make_weights(self._plan, model.module, model.tokenizer, self._space, self._progress)
        if not history.diverged and not self._space.made.exists():
            self._line.require(self._fence)
            partial = self._space.made.with_name(f"{self._space.made.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            save_model(model.module, Path(self._plan.begun_with.path), partial)
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

    def _made(self) -> Path:
        """Folder of the new model: where it is made, or registered by an attempt that ended then."""
        made = self._space.made
        return made if made.exists() else Path(self._resources.models.get(self._plan.plan.new_model).path)
