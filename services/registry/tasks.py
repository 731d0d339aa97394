"""The registry's jobs: registering models, comparing two of them, training them, collecting garbage."""

from dataclasses import asdict
from pathlib import Path

from palimpsest.api.artifacts.v1.artifacts_pb2 import CollectGarbageRequest, CollectGarbageResponse
from palimpsest.api.models.v1.models_pb2 import (
    CheckPairRequest,
    FineTuned,
    FineTuneRequest,
    Model,
    PairReport,
    RegisterModelRequest,
    Relation,
)
from palimpsest.jobs import JobContext, handler
from palimpsest.lm.faults import is_fatal
from palimpsest.models import compare, register, verify
from palimpsest.redaction import redacted
from services.registry.convert import fine_tuned_message, plan_of


@handler("models.register", request=RegisterModelRequest, response=Model, seconds=3600.0)
def register_model(request: RegisterModelRequest, job: JobContext) -> Model:
    """Check, convert, fingerprint and record a model."""
    record = register(
        request.model_id,
        request.source,
        job.resources.models,
        job.resources.settings,
        job.progress,
        parent=request.parent,
        relation=Relation.Name(request.relation),
        labels=dict(request.labels),
    )
    return record.message()


@handler("models.check_pair", request=CheckPairRequest, response=PairReport, seconds=3600.0)
def check_pair(request: CheckPairRequest, job: JobContext) -> PairReport:
    """Compare two registered models, if the files of both are still those that were registered."""
    base, donor = (job.resources.models.get(name) for name in (request.base, request.donor))
    for record in (base, donor):
        verify(record, job.resources.settings, job.progress)
    return PairReport(**asdict(compare(Path(base.path), Path(donor.path), job.progress)))


@handler(
    "artifacts.collect_garbage",
    request=CollectGarbageRequest,
    response=CollectGarbageResponse,
    seconds=3600.0,
)
def collect_garbage(request: CollectGarbageRequest, job: JobContext) -> CollectGarbageResponse:
    """Delete artefacts without references."""
    collected = job.resources.artifacts.collect(request.grace_seconds or None, request.dry_run, job.progress)
    return CollectGarbageResponse(**asdict(collected))


@handler("models.fine_tune", request=FineTuneRequest, response=FineTuned, seconds=7 * 24 * 3600.0)
@redacted(keep=is_fatal)
def fine_tune(request: FineTuneRequest, job: JobContext) -> FineTuned:
    """Train a model and register the result; a later attempt goes on from the last training state."""
    from palimpsest.engine import worker_host
    from services.registry import fine_tuning

    worker_host(job).close()  # training needs the memory
    plan = plan_of(request, job.resources.models.get(request.base))
    return fine_tuned_message(fine_tuning.fine_tune(plan, job))
