"""Models of a request: loaded for training, and registered as new ones."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.errors import NotFound
from palimpsest.models import ModelCatalogue, ModelRecord, fingerprint_folder, register_made, unregister
from palimpsest.progress import Progress
from palimpsest.settings import Settings
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.workspace import Workspace

if TYPE_CHECKING:
    from palimpsest.lm import LanguageModel


def loaded(source: ModelRecord | Path, plan: ResolvedPlan) -> "LanguageModel":
    """Load a model for a plan: in float32, so that small updates are not lost, with parameters that take gradients.

    Raises
    ------
    InvalidArgument, FailedPrecondition
        MODEL_INVALID: its files have changed.
    """
    from palimpsest.lm import load

    threads = plan.recipe.threads
    return load(source, plan.device, "float32", trainable=True, threads=threads, cache_bytes=1 << 20)


def made_in(space: Workspace, model_id: str, catalogue: ModelCatalogue) -> Path | None:
    """Folder of a request's new model: where it is made, or registered by an attempt that ended then; None for none."""
    if space.made.exists():
        return space.made
    with suppress(NotFound):
        there = catalogue.get(model_id)
        if there.path == str(space.registered):
            return space.registered
    return None


def register_unlearned(
    plan: ResolvedPlan,
    request: str,
    space: Workspace,
    catalogue: ModelCatalogue,
    settings: Settings,
    progress: Progress,
) -> ModelRecord:
    """Register the model in a request's workspace as the unlearned child of the one before.

    An attempt after a crash finds it registered. One after a failure has made it again and registers what it has
    measured: on another machine the two differ in bits.

    Raises
    ------
    FailedPrecondition
        MODEL_HAS_CHILDREN: the one that is registered differs, and another was made from it.
    AlreadyExists
        MODEL_EXISTS: the id was taken meanwhile.
    NotFound
        MODEL_NOT_FOUND: the model before was deleted meanwhile.
    """
    model_id = plan.plan.new_model
    with suppress(NotFound):
        there = catalogue.get(model_id)
        if there.path == str(space.registered):
            made = fingerprint_folder(space.made, progress=progress) if space.made.exists() else None
            if made is None or made.model == there.fingerprint:
                return there
            unregister(model_id, catalogue, settings, progress)
    return register_made(
        model_id,
        space.made,
        space.registered.name,
        catalogue,
        settings,
        progress,
        source=request,
        parent=plan.model.model_id,
        relation="RELATION_UNLEARNED",
        labels={"removal_request": request},
    )
