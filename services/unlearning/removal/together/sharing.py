"""Whether a request is trained with others, decided once: it trains for them, takes their weights over, or is alone.

The first of the line freezes the group when it begins to train. What it decides is in its own working folder before it
is in anybody's record, and is not decided again while that folder is there, so that an attempt after a killed one
trains on the same union in the same order. The others look, when their turn comes, at what became of it. Where it has
made no model for just this group, or that model is gone, they are trained alone: a run that failed for all of them is
not tried on them together once more.
"""

from palimpsest.disk import delete_tree
from palimpsest.jobs import JobContext
from services.unlearning.attesting import Attestation, evidence_digest
from services.unlearning.removal.models import made_in
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.removal.together.decision import ALONE, DECIDED, Together
from services.unlearning.removal.together.group import Group
from services.unlearning.removal.together.taking import taken_over
from services.unlearning.requests.alike import waiting
from services.unlearning.requests.line import Line
from services.unlearning.requests.records import PREFIX, RemovalRecord
from services.unlearning.requests.settling import Settler
from services.unlearning.requests.states import ENDED
from services.unlearning.workspace import Workspace


class Sharing:
    """The run of one request, be it its own or for several.

    Parameters
    ----------
    job
        The attempt.
    record, plan
        The request, and its plan resolved.
    space
        Its working folder.
    line, fence
        Of its lineage; it is the first of the line.
    settler
        Knows the other requests.
    """

    def __init__(
        self,
        job: JobContext,
        record: RemovalRecord,
        plan: ResolvedPlan,
        space: Workspace,
        line: Line,
        fence: int,
        settler: Settler,
    ) -> None:
        self._job, self._record, self._plan, self._space = job, record, plan, space
        self._line, self._fence, self._settler = line, fence, settler
        self._group = Group(job, record, plan)
        self._attestation = Attestation(job.resources.settings, job.principal)

    def decided(self) -> Together:
        """Decide, or return what an attempt before has decided. Weights that are taken over are in the working folder.

        Raises
        ------
        Aborted
            FENCE_LOST.
        ResourceExhausted
            DISK_FULL.
        """
        if not self._plan.plan.coalesce:
            return ALONE
        found = self._kept()
        if found is None:
            found = self._first_kept(self._begun())
        elif found.taken and not made_in(self._space, self._plan.plan.new_model, self._job.resources.models):
            found = self._taken_over() or ALONE  # registering it was interrupted, which deletes it
            self._space.write(DECIDED, found.facts())
        self._tell(found)
        return found

    def training(self, found: Together) -> ResolvedPlan:
        """Return the plan as it is trained; see :meth:`Group.training` for the errors."""
        return self._group.training(found) if found.forget else self._plan

    def _begun(self) -> Together:
        shared = self._record.message.shared_run.requests
        if shared and shared[0] != self._record.message.name:
            found = self._taken_over()
            if found is None:
                # An attempt may have died once it had copied a model that has been deleted since.
                delete_tree(self._space.made)
            return found or ALONE
        principal, removal_id = self._job.principal, self._record.id
        return self._group.formed(waiting(self._settler, self._line, principal, removal_id, self._plan.plan))

    def _taken_over(self) -> Together | None:
        return taken_over(
            self._job,
            self._record,
            self._plan,
            self._settler.requests,
            self._space.made,
            lambda: self._line.require(self._fence),
        )

    def _kept(self) -> Together | None:
        facts = self._space.read(DECIDED)
        return None if facts is None else Together.of(facts)

    def _first_kept(self, found: Together) -> Together:
        """Keep a decision, unless an attempt that was believed dead has kept its own in the meantime."""
        self._line.require(self._fence)
        self._space.write_new(DECIDED, found.facts())
        there = self._kept()
        assert there is not None
        return there

    def _tell(self, found: Together) -> None:
        """Write a decision into the records that it concerns, and the log; done again it changes nothing."""
        self._mark(self._record.id, found)
        if found.taken:
            self._attestation.note_changed(self._record.id, "WEIGHTS_TAKEN", found.taken.fingerprint)
        if not found.forget:
            return
        for digest in found.forget:
            self._group.refer(digest)
        for name in found.requests[1:]:
            self._mark(name.removeprefix(PREFIX), found)
        digest = evidence_digest({"requests": list(found.requests), "forget": list(found.forget)})
        self._attestation.note_changed(self._record.id, "TRAINED_TOGETHER", digest)

    def _mark(self, removal_id: str, found: Together) -> None:
        """Write the run into a request's record; not into that of another one that has decided or ended since."""
        principal, own = self._job.principal, removal_id == self._record.id
        if not own and Workspace(self._job.resources.settings, principal, removal_id).read(DECIDED):
            return

        def change(stored: RemovalRecord) -> RemovalRecord:
            over = not own and stored.message.state in ENDED
            return stored if over else stored.changed(shared_run=found.message())

        self._settler.requests.update(principal, removal_id, change)
