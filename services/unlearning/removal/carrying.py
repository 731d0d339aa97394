"""Carrying a request out, from its data to its certificate. Every step leaves what a later attempt goes on from."""

import shutil
from pathlib import Path
from typing import Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.catalogue import quoted
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
from services.unlearning.removal.models import loaded, made_in, register_unlearned
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.removal.requirements import require_free
from services.unlearning.removal.searching import searched
from services.unlearning.removal.stating import statement, stores_digest
from services.unlearning.removal.stores import StorePurger
from services.unlearning.removal.together.decision import RunFacts, Together
from services.unlearning.removal.together.sharing import Sharing
from services.unlearning.removal.training import make_weights, said_by
from services.unlearning.requests.history import Predecessors
from services.unlearning.requests.line import Line
from services.unlearning.requests.records import RemovalRecord
from services.unlearning.requests.settling import Settler
from services.unlearning.verdicts import Verdict
from services.unlearning.workspace import Workspace

MANIFEST_TYPE = "application/jsonl"
_TRAINED, _REPLAYED = "trained.json", "replayed.json"
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
    settler
        Knows the others that wait.
    """

    def __init__(
        self,
        job: JobContext,
        record: RemovalRecord,
        plan: ResolvedPlan,
        line: Line,
        fence: int,
        past: Predecessors,
        settler: Settler,
    ) -> None:
        self._job, self._record, self._plan = job, record, plan
        self._line, self._fence = line, fence
        self._progress, self._resources = job.progress, job.resources
        self._space = Workspace(job.resources.settings, job.principal, record.id)
        self._past, self._settler = past, settler
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
        others = [*plan.references, plan.begun_with, plan.teacher, plan.attacks.never_knew]
        for other in filter(None, others):
            verify(other, self._resources.settings, progress)
        plan.require_no_overlap()
        require_free(self._resources.models, plan.plan, self._space.registered)
        manifest = self._manifest()
        stores = self._purge()
        plan, trials = searched(plan, self._space, progress)
        self._judge = Judge(self._job, plan, self._past, self._space)
        sharing = Sharing(self._job, self._record, plan, self._space, self._line, self._fence, self._settler)
        together = sharing.decided()
        if together.requests:
            plan = plan.with_steps(together.steps)
        self._plan = plan
        run = self._taken(together.taken) if together.taken else self._trained(sharing, together)
        result = reporting.begun(plan, manifest, stores, run)
        result.trained_together.extend(together.requests)
        result.trials.extend(trials)
        measured = None if result.stopped == "diverged" else self._judge.measured(self._made())
        if measured is None or measured.decision.verdict is Verdict.DIVERGED:
            result.verdict = verdict_number(Verdict.DIVERGED)  # type: ignore[assignment]
            self._attestation.note(self._record.id, "DIVERGED")
            return result
        progress.step(0, 1, "deciding")
        reporting.add_measured(result, measured.before, measured.after, measured.references)
        reporting.add_attacks(result, measured.attacks)
        reporting.add_past(result, plan, measured.earlier, self._past, together.requests)
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
        self._refer(digest)
        return digest

    def _refer(self, digest: str) -> None:
        owner = f"removal/{quoted(self._job.principal)}/{self._record.id}"
        self._resources.artifacts.references.add(owner, [digest], self._job.principal)

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
        # Another than in an attempt before this one is of a store that had something again.
        self._attestation.note_changed(self._record.id, "PURGED", stores_digest(found))
        return found

    def _taken(self, run: RunFacts) -> pb.Result:
        """What is known of a run that another request has carried out; its weights are in the working folder."""
        if not self._judge.knows_before:
            self._progress.step(0, 0, "loading the model")
            self._judge.before(loaded(self._plan.model, self._plan))
        if run.curve:
            self._refer(run.curve)
        return pb.Result(steps=run.steps, stopped=run.stopped, curve=run.curve, replayed=run.replayed)

    def _trained(self, sharing: Sharing, together: Together) -> pb.Result:
        """Train, unless an earlier attempt did; returns what is known of the run."""
        history = self._train(sharing, together)
        replayed = self._space.read(_REPLAYED) or 0
        found = pb.Result(steps=history.steps, stopped=history.stopped, replayed=replayed)
        if curve := curve_of(history, self._space.read(LOOKS)):
            found.curve = self._keep(curve, CURVE_TYPE)
        return found

    def _train(self, sharing: Sharing, together: Together) -> History:
        """Make the new model's folder, unless an earlier attempt did; on others' data too if the run is for several."""
        known = self._space.read(_TRAINED)
        if known is not None:
            history = History.of(known)
            if history.diverged or self._is_made():
                return history
        # Registering it may have been interrupted, which deletes it. Made again, it may differ in bits on another
        # machine; and weights that were taken over, and are gone, were others.
        self._judge.forget_made()
        self._progress.step(0, 0, "loading the model")
        model: Any = loaded(self._plan.model, self._plan)
        self._judge.before(model)
        plan = sharing.training(together)
        said = said_by(plan, model.module, model.tokenizer, self._progress)
        self._space.write(_REPLAYED, len(said))
        if self._plan.start is not None:
            del model
            model = loaded(self._plan.start, self._plan)
        history = make_weights(plan, model.module, model.tokenizer, self._space, self._progress, said)
        if not history.diverged and not self._space.made.exists():
            self._line.require(self._fence)
            partial = self._space.made.with_name(f"{self._space.made.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            save_model(model.module, Path(self._plan.begun_with.path), partial)
            partial.rename(self._space.made)
        self._space.write(_TRAINED, history.facts())
        return history

    def _is_made(self) -> bool:
        return made_in(self._space, self._plan.plan.new_model, self._resources.models) is not None

    def _made(self) -> Path:
        found = made_in(self._space, self._plan.plan.new_model, self._resources.models)
        assert found is not None
        return found
