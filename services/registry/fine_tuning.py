"""Fine-tuning as a job: examples in, a registered model or an adapter out, with states that outlive the worker."""

import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from palimpsest.api.models.v1 import models_pb2 as pb
from palimpsest.artifacts import ArtifactInfo
from palimpsest.errors import AlreadyExists, FailedPrecondition, NotFound, Reason
from palimpsest.jobs import JobContext
from palimpsest.lm import LanguageModel, load
from palimpsest.models import ModelRecord, register_made, verify
from palimpsest.training import Checkpoints, Example, History, train
from palimpsest.training.adapters import merge, save_adapter
from palimpsest.training.cross_entropy import CrossEntropy, mean_nll
from palimpsest.training.reading import read_examples
from palimpsest.training.saving import save_model
from services.registry.convert import context_of, recipe_of, steps_of
from services.registry.training_states import TrainingStates

OBJECTIVE = "cross-entropy/1"


def fine_tune(request: pb.FineTuneRequest, job: JobContext) -> pb.FineTuned:
    """Train a model on the request's examples, and register the result or publish its adapter.

    Raises
    ------
    AlreadyExists
        MODEL_EXISTS.
    FailedPrecondition
        TRAINING_DIVERGED, MODEL_CHANGED, MODEL_INVALID.
    InvalidArgument
        TRAINING_DATA_INVALID, TRAINING_DATA_EMPTY, ADAPTER_INVALID.
    """
    settings, models, progress = job.resources.settings, job.resources.models, job.progress
    name = f"fine-tuned-{job.job_id}"
    _require_free(request.model_id, settings.models_dir / name, job)
    base = models.get(request.base)
    verify(base, settings, progress)
    states = TrainingStates(job)
    with _scratch(settings.models_dir, job) as scratch:
        progress.step(0, 0, "loading the model")
        model = load(base, settings.device, trainable=True, threads=states.threads)
        examples = _examples(request, "train", model, base, job)
        held_out = _examples(request, "validation", model, base, job) if request.validation else []
        recipe = recipe_of(request, steps_of(request, len(examples)), states.threads)
        checkpoints = Checkpoints(
            scratch / "states",
            request.checkpoint_every,
            seconds=settings.checkpoint_seconds,
            identity=_identity(request, base),
            on_saved=states.publish,
        )
        states.fetch(checkpoints.folder)
        pad, device = _pad(model.tokenizer), model.device

        def validate() -> float:
            progress.step(0, 0, "validating")
            at_once = recipe.micro_batch or recipe.batch
            return mean_nll(model.module, held_out, at_once, pad, device, progress.check)

        history = train(
            model.module,
            CrossEntropy(examples, recipe, pad, device),
            recipe,
            checkpoints=checkpoints,
            progress=progress,
            validation=validate if held_out else None,
        )
        result = _told(history, examples)
        result.curve.CopyFrom(_publish_curve(history, job).message())
        if request.HasField("lora") and request.lora.unmerged:
            result.adapter.CopyFrom(_publish_adapter(model, base, scratch, job).message())
        else:
            record = _registered(request, model, base, name, job)
            result.model.CopyFrom(record.message())
    states.forget()
    return result


def _require_free(model_id: str, folder: Path, job: JobContext) -> None:
    """Refuse an id that is taken before hours of work; an earlier attempt at this job may have registered it."""
    with suppress(NotFound):
        if model_id and job.resources.models.get(model_id).path != str(folder):
            message = f"{model_id!r} names a model. Use another id, or delete that one."
            raise AlreadyExists(Reason.MODEL_EXISTS, message, metadata={"model": model_id})


@contextmanager
def _scratch(models_dir: Path, job: JobContext) -> Iterator[Path]:
    """A folder of this attempt alone, beside the models; those of earlier attempts are deleted."""
    models_dir.mkdir(parents=True, exist_ok=True)
    for left in models_dir.glob(f".training-{job.job_id}-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = models_dir / f".training-{job.job_id}-{job.attempt}"
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _examples(
    request: pb.FineTuneRequest, what: str, model: LanguageModel, base: ModelRecord, job: JobContext
) -> list[Example]:
    job.progress.step(0, 0, f"reading the data for {what}")
    plain = request.format == pb.EXAMPLE_FORMAT_PLAIN_TEXT
    with job.resources.artifacts.open(getattr(request, what)) as file:
        examples = read_examples(
            file, model.tokenizer, context_of(request, base), plain=plain, what=what, check=job.progress.check
        )
    known = cast(Any, model.module.get_input_embeddings()).num_embeddings
    if max(max(example.ids) for example in examples) >= known:
        message = f"The tokenizer of {base.model_id!r} gives ids that its {known} embeddings do not have."
        raise FailedPrecondition(Reason.MODEL_INVALID, message)
    return examples


def _identity(request: pb.FineTuneRequest, base: ModelRecord) -> dict[str, Any]:
    return {
        "objective": OBJECTIVE,
        "model": base.fingerprint,
        "train": request.train,
        "validation": request.validation,
        "format": request.format,
        "context": context_of(request, base),
    }


def _pad(tokenizer: Any) -> int:
    """A token id that fills rows up; which one makes no difference."""
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return found or 0


def _told(history: History, examples: list[Example]) -> pb.FineTuned:
    if history.diverged:
        raise FailedPrecondition(
            Reason.TRAINING_DIVERGED,
            f"The loss or the gradient of step {history.steps} is no longer finite. Use a lower learning rate, or a "
            "warm-up.",
            metadata={"step": history.steps},
        )
    return pb.FineTuned(
        steps=history.steps,
        effective_batch=history.effective_batch,
        examples=len(examples),
        counted_tokens=sum(sum(example.counted) for example in examples),
        first_loss=history.losses[0],
        last_loss=history.losses[-1],
        validation_loss=history.validation[-1][1] if history.validation else None,
    )


def _registered(
    request: pb.FineTuneRequest, model: LanguageModel, base: ModelRecord, name: str, job: JobContext
) -> ModelRecord:
    job.progress.step(0, 0, "storing the model")
    if request.HasField("lora"):
        merge(model.module)
    made = job.resources.settings.models_dir / f".{name}-{job.attempt}.partial"
    save_model(model.module, Path(base.path), made)
    return register_made(
        request.model_id,
        made,
        name,
        job.resources.models,
        job.resources.settings,
        job.progress,
        source=f"operations/{job.job_id}",
        parent=base.model_id,
        relation=pb.Relation.Name(pb.RELATION_FINE_TUNED),
        labels=dict(request.labels),
    )


def _publish_adapter(model: LanguageModel, base: ModelRecord, scratch: Path, job: JobContext) -> ArtifactInfo:
    job.progress.step(0, 0, "storing the adapter")
    save_adapter(model.module, scratch / "adapter", base.model_id)
    packed = scratch / "adapter.tar"
    with tarfile.open(packed, "w") as tar:
        for file in sorted((scratch / "adapter").iterdir()):
            entry = tarfile.TarInfo(file.name)  # without times and owners: equal adapters have equal digests
            entry.size = file.stat().st_size
            with file.open("rb") as data:
                tar.addfile(entry, data)
    info = job.resources.artifacts.put_file(packed, "application/x-tar")
    job.progress.publish(info.digest)
    return info


def _publish_curve(history: History, job: JobContext) -> ArtifactInfo:
    facts = {name: value for name, value in history.facts().items() if name != "stopped"}
    info = job.resources.artifacts.put_bytes(json.dumps(facts).encode(), "application/json")
    job.progress.publish(info.digest)
    return info
