"""Models of a request: loaded for training, and written as new ones."""

import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.disk import room_for, sync_tree
from palimpsest.errors import AlreadyExists, InvalidArgument, NotFound
from palimpsest.models import ModelCatalogue, ModelRecord, register_made
from palimpsest.models.weights import INDEX_FILE, PICKLED_SUFFIXES
from palimpsest.progress import Progress
from palimpsest.settings import Settings
from services.unlearning.removal.plan import ResolvedPlan

if TYPE_CHECKING:
    from palimpsest.lm import LanguageModel

_WEIGHTS = (".safetensors", ".gguf", *PICKLED_SUFFIXES)


def loaded(record: ModelRecord, plan: ResolvedPlan) -> "LanguageModel":
    """Load a model for a plan: in float32, so that small updates are not lost, with parameters that take gradients.

    Raises
    ------
    InvalidArgument, FailedPrecondition
        MODEL_INVALID: its files have changed.
    """
    from palimpsest.lm import load

    return load(
        record, plan.device, "float32", trainable=True, threads=plan.recipe.threads, cache_bytes=1 << 20
    )


def write_model(module: Any, before: ModelRecord, folder: Path) -> None:
    """Write a module as a model of its own, with the tokenizer of the one it was made from.

    Parameters
    ----------
    module
        transformers' own; written as safetensors in the dtype it has.
    before
        The model it was made from; its files beside the weights are copied.
    folder
        Must not exist; it appears as a whole.

    Raises
    ------
    ResourceExhausted
        DISK_FULL.
    """
    source = Path(before.path)
    partial = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        with room_for(f"the weights of the new model in {folder}"):
            partial.mkdir(parents=True)
            for path in source.iterdir():
                if path.is_file() and path.suffix not in _WEIGHTS and not path.name.startswith("."):
                    shutil.copyfile(path, partial / path.name)
            (partial / INDEX_FILE).unlink(missing_ok=True)
            module.save_pretrained(partial, safe_serialization=True)
            sync_tree(partial)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def register_unlearned(
    model_id: str,
    made: Path,
    before: ModelRecord,
    request: str,
    key: str,
    catalogue: ModelCatalogue,
    settings: Settings,
    progress: Progress,
) -> ModelRecord:
    """Move a model that was made to the installation's models and register it as the other's unlearned child.

    An attempt after a crash finds it moved already, or registered. ``key`` is the request's own part of the folder's
    name; where registration fails the folder is deleted.

    Raises
    ------
    AlreadyExists
        MODEL_EXISTS: the id was taken meanwhile.
    NotFound
        MODEL_NOT_FOUND: the model before was deleted meanwhile.
    """
    folder = settings.models_dir / f"unlearned-{model_id}-{key}"
    if not folder.exists():
        settings.models_dir.mkdir(parents=True, exist_ok=True)
        made.rename(folder)
    try:
        return register_made(
            model_id,
            folder,
            catalogue,
            settings,
            progress,
            parent=before.model_id,
            relation="RELATION_UNLEARNED",
            labels={"removal_request": request},
        )
    except (AlreadyExists, NotFound, InvalidArgument):
        if not catalogue.uses(str(folder)):
            shutil.rmtree(folder, ignore_errors=True)
        raise
