"""Fine-tuning as a job: examples in, a registered model or an adapter out, with states that outlive the worker."""

import json
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from palimpsest.artifacts import ArtifactInfo
from palimpsest.errors import AlreadyExists, FailedPrecondition, NotFound, Reason
from palimpsest.jobs import JobContext
from palimpsest.lm import LanguageModel, load
from palimpsest.lm.hardware import pick_device
from palimpsest.models import ModelRecord, register_made, verify
from palimpsest.models.json_files import read_object
from palimpsest.training import Checkpoints, Example, History, train
from palimpsest.training.adapters import merge, save_adapter
from palimpsest.training.cross_entropy import CrossEntropy, mean_nll
from palimpsest.training.reading import read_examples
from palimpsest.training.saving import is_finite, save_model
from services.registry import leftovers
from services.registry.fine_tuning_plan import FineTuningPlan, FineTuningResult
from services.registry.fine_tuning_ranks import Shared, devices_for, other_ranks
from services.registry.training_states import TrainingStates


def fine_tune(plan: FineTuningPlan, job: JobContext) -> FineTuningResult:
    """Train a model on examples, and register the result or publish its adapter.

    Raises
    ------
    AlreadyExists
        MODEL_EXISTS.
    FailedPrecondition
        TRAINING_DIVERGED, MODEL_CHANGED, MODEL_INVALID, DEVICES_MISSING.
    InvalidArgument
        TRAINING_DATA_INVALID, TRAINING_DATA_EMPTY, TRAINING_RECIPE_INVALID, ADAPTER_INVALID.
    Unavailable
        DEVICE_LOST.
    """
    settings, models, progress = job.resources.settings, job.resources.models, job.progress
    name = f"fine-tuned-{job.job_id}"
    _require_free(plan.model_id, settings.models_dir / name, job)
    base = models.get(plan.base)
    verify(base, settings, progress)
    _require_floats(base)
    states = TrainingStates(job)
    states.devices = devices_for(
        states.devices or plan.devices, plan.recipe.batch, pick_device(settings.device)
    )
    with leftovers.scratch(settings.models_dir, job) as scratch:
        progress.step(0, 0, "loading the model")
        model = load(base, settings.device, trainable=True, threads=_threads(states))
        examples = _examples(plan, plan.train, "train", model, job)
        history = _trained(plan, model, base, examples, states, scratch, job)
        facts = {
            "history": history,
            "curve": _publish_curve(history, job),
            "examples": len(examples),
            "counted_tokens": sum(sum(example.counted) for example in examples),
            "devices": states.devices,
        }
        if plan.unmerged:
            made = FineTuningResult(**facts, adapter=_publish_adapter(model, base, scratch, job))
        else:
            made = FineTuningResult(**facts, model=_registered(plan, model, base, scratch, name, facts, job))
    states.forget()
    return made


def _trained(
    plan: FineTuningPlan,
    model: LanguageModel,
    base: ModelRecord,
    examples: list[Example],
    states: TrainingStates,
    scratch: Path,
    job: JobContext,
) -> History:
    progress = job.progress
    held_out = _examples(plan, plan.validation, "validation", model, job) if plan.validation else []
    recipe = plan.recipe_for(len(examples), _threads(states), states.devices)
    checkpoints = Checkpoints(
        scratch / "states",
        plan.checkpoint_every,
        seconds=job.resources.settings.checkpoint_seconds,
        identity=plan.identity(base),
        on_saved=states.publish,
    )
    states.fetch(checkpoints.folder)
    pad, device = _pad(model.tokenizer), model.device

    def validate() -> float:
        progress.step(0, 0, "validating")
        at_once = recipe.micro_batch or recipe.batch
        return mean_nll(model.module, held_out, at_once, pad, device, progress.check)

    shared = Shared(base.path, device.type, recipe, pad)
    with other_ranks(shared, examples, scratch / "ranks", progress) as ranks:
        history = train(
            model.module,
            CrossEntropy(examples, recipe, pad, device),
            recipe,
            checkpoints=checkpoints,
            progress=progress,
            validation=validate if held_out else None,
            ranks=ranks,
        )
    if history.diverged or not is_finite(model.module):
        raise FailedPrecondition(
            Reason.TRAINING_DIVERGED,
            f"The loss, the gradient or the weights of step {history.steps} are no longer finite. Use a lower learning "
            "rate, or a warm-up.",
            metadata={"step": history.steps},
        )
    return history


def _threads(states: TrainingStates) -> int:
    """CPU threads of one process: those of the job are shared out."""
    return max(1, states.threads // states.devices)


def _require_free(model_id: str, folder: Path, job: JobContext) -> None:
    """Refuse an id that is taken before hours of work; an earlier attempt at this job may have registered it."""
    with suppress(NotFound):
        if model_id and job.resources.models.get(model_id).path != str(folder):
            message = f"{model_id!r} names a model. Use another id, or delete that one."
            raise AlreadyExists(Reason.MODEL_EXISTS, message, metadata={"model": model_id})


def _require_floats(base: ModelRecord) -> None:
    if read_object(Path(base.path) / "config.json").get("quantization_config") is not None:
        message = f"{base.model_id!r} is quantised, and cannot be trained. Train the model it was made from."
        raise FailedPrecondition(Reason.MODEL_INVALID, message, metadata={"model": base.model_id})


def _examples(
    plan: FineTuningPlan, digest: str, what: str, model: LanguageModel, job: JobContext
) -> list[Example]:
    job.progress.step(0, 0, f"reading the data for {what}")
    with job.resources.artifacts.open(digest) as file:
        examples = read_examples(
            file, model.tokenizer, plan.context, plain=plan.plain, what=what, check=job.progress.check
        )
    known = cast(Any, model.module.get_input_embeddings()).num_embeddings
    if max(max(example.ids) for example in examples) >= known:
        message = f"The tokenizer of {plan.base!r} gives ids that its {known} embeddings do not have."
        raise FailedPrecondition(Reason.MODEL_INVALID, message)
    return examples


def _pad(tokenizer: Any) -> int:
    """A token id that fills rows up; which one makes no difference."""
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return found or 0


def _registered(
    plan: FineTuningPlan,
    model: LanguageModel,
    base: ModelRecord,
    scratch: Path,
    name: str,
    facts: dict[str, Any],
    job: JobContext,
) -> ModelRecord:
    job.progress.step(0, 0, "storing the model")
    if plan.recipe.adapter is not None:
        merge(model.module)
    save_model(model.module, Path(base.path), scratch / "model")
    return register_made(
        plan.model_id,
        scratch / "model",
        name,
        job.resources.models,
        job.resources.settings,
        job.progress,
        source=f"operations/{job.job_id}",
        parent=base.model_id,
        relation="RELATION_FINE_TUNED",
        labels=plan.labels,
        training={
            "steps": facts["history"].steps,
            "effective_batch": facts["history"].effective_batch,
            "devices": facts["devices"],
        },
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
