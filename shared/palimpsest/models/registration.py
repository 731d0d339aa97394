"""Registering and deleting models."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from palimpsest.disk import delete_tree, sync
from palimpsest.errors import Aborted, FailedPrecondition, InvalidArgument, PermissionDenied, Reason
from palimpsest.models.catalogue import ModelCatalogue
from palimpsest.models.convert import held
from palimpsest.models.files import require_regular_files
from palimpsest.models.fingerprint import fingerprint_folder
from palimpsest.models.folder import inspect_folder
from palimpsest.models.record import ModelRecord
from palimpsest.models.sources import fetch_source
from palimpsest.models.weights import stored_tensors
from palimpsest.progress import Progress
from palimpsest.settings import Settings


def register(
    model_id: str,
    source: str,
    catalogue: ModelCatalogue,
    settings: Settings,
    progress: Progress,
    *,
    parent: str = "",
    relation: str = "RELATION_UNSPECIFIED",
    labels: Mapping[str, str] | None = None,
) -> ModelRecord:
    """Register a model; the record appears last, so that nothing is registered unless everything succeeded.

    Returns the record: the new one, or the one already there if its content is the same.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID, MODEL_PICKLED, or INVALID_REQUEST for something that is not a source.
    NotFound
        MODEL_SOURCE_NOT_FOUND; MODEL_NOT_FOUND for the parent.
    PermissionDenied
        MODEL_SOURCE_FORBIDDEN.
    AlreadyExists
        MODEL_EXISTS.
    Aborted
        MODEL_CHANGED: the files changed while they were read.
    """
    if parent:
        catalogue.get(parent)
    try:
        local = fetch_source(source, settings, progress)
        progress.step(0, 1, "checking")
        facts = inspect_folder(local.folder)
        found = fingerprint_folder(local.folder, settings.models_dir, progress)
    except PermissionError as error:
        message = f"The server's user may not read {error.filename}. Give it the right to, or copy the model."
        raise PermissionDenied(Reason.MODEL_SOURCE_FORBIDDEN, message) from error
    record = ModelRecord(
        model_id=model_id,
        fingerprint=found.model,
        tokenizer_fingerprint=found.tokenizer,
        source=source,
        source_format=local.source_format,
        path=str(local.folder),
        parent=parent,
        relation=relation,
        create_time=time.time(),
        labels=dict(labels or {}),
        **vars(facts),
    )
    progress.step(1, 1, "registering")
    if local.folder.parent != settings.models_dir:
        return catalogue.put(record)
    with held(local.folder, progress):
        if not local.folder.is_dir():
            message = f"Another request deleted the conversion of {source} at this moment. Register it again."
            raise Aborted(Reason.MODEL_CHANGED, message, retry_after=1)
        return catalogue.put(record)


def register_made(
    model_id: str,
    made: Path,
    name: str,
    catalogue: ModelCatalogue,
    settings: Settings,
    progress: Progress,
    *,
    source: str,
    parent: str,
    relation: str,
    labels: Mapping[str, str] | None = None,
    training: Mapping[str, int] | None = None,
) -> ModelRecord:
    """Register a model that this installation has made, such as by training; the record appears last.

    Parameters
    ----------
    model_id
        The new model's id.
    made
        Folder with the model, in ``settings.models_dir`` under a name nobody looks for. It is moved; where this fails,
        it is deleted.
    name
        The folder's name from here on, of this work alone: the same work done again, because the process that did it
        died, replaces the folder or finds itself registered.
    source, training
        What made it and how, as the record tells it.
    parent, relation, labels, catalogue, settings, progress
        As in :func:`register`.

    Returns
    -------
    ModelRecord
        The new one, or the one already there if its content is the same.

    Raises
    ------
    InvalidArgument
        MODEL_INVALID, MODEL_PICKLED.
    NotFound
        MODEL_NOT_FOUND: the parent is gone.
    AlreadyExists
        MODEL_EXISTS.
    """
    folder = settings.models_dir / name
    try:
        progress.step(0, 1, "checking")
        facts = inspect_folder(made)
        found = fingerprint_folder(made, progress=progress)
        progress.step(1, 1, "registering")
        record = ModelRecord(
            model_id=model_id,
            fingerprint=found.model,
            tokenizer_fingerprint=found.tokenizer,
            source=source,
            source_format="safetensors",
            path=str(folder),
            parent=parent,
            relation=relation,
            create_time=time.time(),
            labels=dict(labels or {}),
            training=dict(training or {}),
            **vars(facts),
        )
        with held(folder, progress):
            return _put_made(record, made, catalogue)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _put_made(record: ModelRecord, made: Path, catalogue: ModelCatalogue) -> ModelRecord:
    """Move a folder to where its record says, and add the record; without it the folder goes."""
    folder = Path(record.path)
    if not catalogue.uses(record.path):
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
        sync(folder.parent)
    try:
        return catalogue.put(record)
    finally:
        if not catalogue.uses(record.path):
            shutil.rmtree(folder, ignore_errors=True)


def unregister(model_id: str, catalogue: ModelCatalogue, settings: Settings, progress: Progress) -> None:
    """Forget a model; delete its weights if this installation made that copy and no other model uses it.

    Raises
    ------
    NotFound
        MODEL_NOT_FOUND.
    FailedPrecondition
        MODEL_HAS_CHILDREN.
    """
    folder = Path(catalogue.delete(model_id).path)
    if folder.parent != settings.models_dir or not folder.is_dir():
        return
    with held(folder, progress):
        if not catalogue.uses(str(folder)):
            delete_tree(folder)


def verify(record: ModelRecord, settings: Settings, progress: Progress) -> None:
    """Check that a registered model's files are what was registered; costs nothing while they are untouched.

    Raises
    ------
    FailedPrecondition
        MODEL_CHANGED: files are gone, or no longer have the registered fingerprint.
    """
    try:
        require_regular_files(Path(record.path))
        stored_tensors(Path(record.path))
        unchanged = (
            fingerprint_folder(Path(record.path), settings.models_dir, progress).model == record.fingerprint
        )
    except (FileNotFoundError, InvalidArgument):
        unchanged = False
    if not unchanged:
        message = (
            f"The files of {record.model_id!r} in {record.path} are not what was registered. Put them back, or "
            "delete the model and register it again."
        )
        raise FailedPrecondition(Reason.MODEL_CHANGED, message, metadata={"model": record.model_id})
