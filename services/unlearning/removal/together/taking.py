"""The weights of a run that was for several requests, taken over by one of those that did not train."""

import shutil
from collections.abc import Callable
from pathlib import Path

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.disk import room_for, sync_tree
from palimpsest.errors import InvalidArgument, NotFound
from palimpsest.jobs import JobContext
from palimpsest.models import ModelRecord, fingerprint_folder
from palimpsest.progress import Progress
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.removal.together.decision import RunFacts, Together
from services.unlearning.requests.records import RemovalCatalogue, RemovalRecord
from services.unlearning.workspace import Workspace


def taken_over(
    job: JobContext,
    record: RemovalRecord,
    plan: ResolvedPlan,
    requests: RemovalCatalogue,
    target: Path,
    allowed: Callable[[], None],
) -> Together | None:
    """Copy the weights that another request has made for this one too; None if there are none for just their group.

    Parameters
    ----------
    job
        The attempt.
    record, plan
        The request, which is part of a run that another one carries out, and its plan resolved.
    requests
        All requests.
    target
        Folder of the new model; there, and whole, once this returns a run.
    allowed
        Raises if the attempt may change nothing any more.

    Raises
    ------
    ResourceExhausted
        DISK_FULL.
    """
    first = requests.find(job.principal, record.message.shared_run.requests[0].rpartition("/")[2])
    model = None if first is None else _model_of(first, job, record.message.shared_run, plan)
    if first is None or model is None:
        return None
    partial = target.with_name(f"{target.name}.partial")
    if not _copied(Path(model.path), partial, model.fingerprint, job.progress):
        return None
    allowed()
    shutil.rmtree(target, ignore_errors=True)  # of an attempt that died before it could say what it is
    partial.rename(target)
    shared, result = record.message.shared_run, first.message.result
    facts = RunFacts(model.fingerprint, result.steps, result.stopped, result.curve, result.replayed)
    return Together(tuple(shared.requests), (), shared.steps, facts)


def _model_of(
    first: RemovalRecord, job: JobContext, shared: pb.SharedRun, plan: ResolvedPlan
) -> ModelRecord | None:
    """The model that a request has made for its whole group, of the very models that this plan names."""
    result, own = first.message.result, job.resources
    others = [each.fingerprint if each else "" for each in (plan.start, plan.teacher)]
    begun = (plan.model.fingerprint, *others)
    if first.message.state != pb.REMOVAL_STATE_SUCCEEDED:
        return None
    if begun != (result.model_fingerprint, result.start_fingerprint, result.teacher_fingerprint):
        return None
    if list(result.trained_together) != list(shared.requests):  # tried again since, for others
        return None
    try:
        made = own.models.get(first.message.plan.new_model)
    except NotFound:  # it diverged, or somebody has deleted the model
        return None
    registered = Workspace(own.settings, job.principal, first.id).registered
    same = made.path == str(registered) and made.fingerprint == result.new_model_fingerprint
    return made if same else None


def _copied(source: Path, target: Path, fingerprint: str, progress: Progress) -> bool:
    """Copy a model's folder byte by byte; returns whether it was there, and what it should be. If not, none is left."""
    shutil.rmtree(target, ignore_errors=True)
    same = False
    try:
        with room_for(f"a copy of the model in {source}"):
            files = sorted(source.rglob("*"))
            for number, file in enumerate(files):
                progress.step(number, len(files), "taking the weights over")
                own = target / file.relative_to(source)
                own.parent.mkdir(parents=True, exist_ok=True)
                if file.is_file():
                    shutil.copyfile(file, own)
            same = fingerprint_folder(target, progress=progress).model == fingerprint
            if same:
                sync_tree(target)
    except (FileNotFoundError, InvalidArgument):  # deleted, before this or in the meantime
        same = False
    finally:
        if not same:
            shutil.rmtree(target, ignore_errors=True)
    return same
