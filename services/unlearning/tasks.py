"""The unlearning room's job: one removal request, from its data to its certificate."""

from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.disk import disk_full, is_full
from palimpsest.errors import Internal, PalimpsestError, Reason
from palimpsest.jobs import JobContext, JobStore, handler
from palimpsest.lm.faults import is_fatal
from palimpsest.progress import Drain, LeaseLost, Postponed
from palimpsest.redaction import redacted
from palimpsest.redis import forget_deleted
from services.unlearning.requests.history import past_of
from services.unlearning.requests.line import Line
from services.unlearning.requests.records import RemovalCatalogue, RemovalRecord
from services.unlearning.requests.settling import Settler
from services.unlearning.requests.states import SETTLED, ended, now_stamp

if TYPE_CHECKING:
    from services.unlearning.removal.plan import ResolvedPlan

_log = structlog.get_logger(__name__)
WAIT_SECONDS = 10.0
"""How long a request that is not the first of its line is put off; the one before it wakes it sooner."""
HELD_LOOK_SECONDS = 60.0
"""How long an attempt at a held request is put off: the hold may yet be refused, because of this very attempt."""


@handler(
    "unlearning.remove",
    request=pb.CreateRemovalRequestRequest,
    response=pb.RemovalRequest,
    seconds=14 * 24 * 3600.0,
)
@redacted(keep=is_fatal)
def remove(request: pb.CreateRemovalRequestRequest, job: JobContext) -> pb.RemovalRequest:
    """Carry a request out, once it is the first of its lineage's line."""
    own = job.resources
    requests = RemovalCatalogue(own.redis, own.settings.redis_prefix)
    record = requests.update(
        job.principal,
        request.removal_id,
        lambda found: _begun(found, f"operations/{job.job_id}"),
    )
    settler = Settler(requests, JobStore(own.redis, own.settings), own.settings)
    if record.message.state in SETTLED:  # by an attempt whose end was not recorded
        return _cleared_up(job, requests, record, settler)
    if record.message.state == pb.REMOVAL_STATE_HELD:
        raise Postponed(HELD_LOOK_SECONDS)
    line = Line(own.redis, own.settings.redis_prefix, record.lineage)
    line.join(job.principal, record.id)
    if ahead := settler.ahead(job.principal, record):
        job.progress.step(0, 0, f"waiting for {ahead} requests on the same lineage")
        raise Postponed(WAIT_SECONDS)
    fence = line.begin()
    try:
        return _carry_out(job, requests, record, settler, line, fence)
    except (Drain, LeaseLost, Postponed):
        raise
    except Exception as error:
        # An attempt that was believed dead says nothing of the request: its state, its folder and its place in the
        # line are those of the attempt that has the fence now.
        if line.holds(fence):
            settler.fail(job.principal, record, _told(error))
        raise


def _begun(found: RemovalRecord, operation: str) -> RemovalRecord:
    """The request as an attempt finds it; one whose job is tried again has not ended, so that its next end is noted."""
    if ended(found) and found.message.state not in SETTLED:
        return found.changed(state=pb.REMOVAL_STATE_QUEUED, end_time=None, error=None)
    return found.with_job(operation, pb.REMOVAL_STATE_QUEUED)


def _told(error: Exception) -> PalimpsestError:
    """An error as a request's record has it; nothing of one that nobody foresaw, for texts may be in it."""
    if isinstance(error, PalimpsestError):
        return error
    if is_full(error):
        return disk_full("what the request writes")
    return Internal(
        Reason.BUG, "The request failed unexpectedly; the worker's log has the details under its job's id."
    )


def _carry_out(
    job: JobContext,
    requests: RemovalCatalogue,
    record: RemovalRecord,
    settler: Settler,
    line: Line,
    fence: int,
) -> pb.RemovalRequest:
    from palimpsest.engine import worker_host
    from services.unlearning.attesting import Attestation
    from services.unlearning.removal.carrying import Removal
    from services.unlearning.workspace import Workspace

    worker_host(job).close()  # training needs the memory
    Workspace(job.resources.settings, job.principal, record.id).begin()
    Attestation(job.resources.settings, job.principal).note_once(
        record.id, "STARTED", f"sha256:{record.content}"
    )
    plan = _resolved(record, job)
    past = past_of(requests, job.principal, job.resources.models, plan.model, plan.start)
    result = Removal(job, record, plan, line, fence, past, settler).run()
    line.require(fence)

    def succeeded(found: RemovalRecord) -> RemovalRecord:
        return found.changed(
            state=pb.REMOVAL_STATE_SUCCEEDED, end_time=now_stamp(), error=None, result=result
        )

    return _cleared_up(job, requests, requests.update(job.principal, record.id, succeeded), settler)


def _cleared_up(
    job: JobContext, requests: RemovalCatalogue, record: RemovalRecord, settler: Settler
) -> pb.RemovalRequest:
    """Delete what a request that has succeeded leaves behind, and let the next one begin; may be done again."""
    from services.unlearning.workspace import Workspace

    settler.release(job.principal, record.id)
    if record.message.plan.delete_forget_set and not record.message.result.forget_set_deleted:
        result = pb.Result()
        result.CopyFrom(record.message.result)
        result.forget_set_deleted = _delete_forget_set(job, record)
        record = requests.update(job.principal, record.id, lambda found: found.changed(result=result))
    Workspace(job.resources.settings, job.principal, record.id).delete()
    if record.message.result.stores and (why := forget_deleted(job.resources.redis)):
        # Jobs that made what was purged were deleted with it; their requests may have the text in them.
        _log.warning("the append-only file of Redis is not written anew", removal=record.id, why=why)
    settler.leave(job.principal, record)
    return record.message


def _resolved(record: RemovalRecord, job: JobContext) -> "ResolvedPlan":
    from palimpsest.lm.hardware import pick_device
    from palimpsest.models.tokenizers import load_tokenizer
    from services.unlearning.removal.plan import resolve

    own = job.resources
    return resolve(
        record.message.plan,
        own.models,
        own.artifacts,
        lambda model: load_tokenizer(Path(model.path)),
        own.settings.threads,
        pick_device(own.settings.device).type,
    )


def _delete_forget_set(job: JobContext, record: RemovalRecord) -> bool:
    """Give the caller's copy of the forget set up; returns whether it is gone, for others may refer to it."""
    from palimpsest.artifacts import ArtifactView
    from palimpsest.errors import FailedPrecondition, NotFound

    artifacts = job.resources.artifacts
    digest = record.message.plan.forget
    artifacts.references.remove_owner(f"job/{job.job_id}")
    try:
        ArtifactView(artifacts, job.principal).delete(digest)
    except NotFound:
        return True
    except FailedPrecondition:
        return False
    return True
