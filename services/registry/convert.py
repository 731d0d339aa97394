"""Conversion between the contract's messages about training and the room's own classes."""

from palimpsest.api.models.v1 import models_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason, Violation
from palimpsest.models import ModelRecord
from palimpsest.training import LoraSettings, Recipe
from services.registry.fine_tuning_plan import FineTuningPlan, FineTuningResult

BATCH = 8
CONTEXT = 1024
RANK = 8
RATE, ADAPTER_RATE = 1e-5, 1e-4

_SCHEDULES = {
    pb.LEARNING_RATE_SCHEDULE_UNSPECIFIED: "constant",
    pb.LEARNING_RATE_SCHEDULE_CONSTANT: "constant",
    pb.LEARNING_RATE_SCHEDULE_COSINE: "cosine",
    pb.LEARNING_RATE_SCHEDULE_LINEAR: "linear",
}


def plan_of(request: pb.FineTuneRequest, base: ModelRecord) -> FineTuningPlan:
    """What a request asks for; what can be known to be wrong before the examples are read is refused.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST or TRAINING_RECIPE_INVALID; the violations name the fields.
    """
    if wrong := _violations(request, base):
        raise InvalidArgument(Reason.INVALID_REQUEST, wrong[0].description, violations=wrong)
    lora = request.lora
    adapter = (
        LoraSettings(lora.rank or RANK, lora.alpha, tuple(lora.targets)) if request.HasField("lora") else None
    )
    return FineTuningPlan(
        base=request.base,
        model_id=request.model_id,
        train=request.train,
        validation=request.validation,
        plain=request.format == pb.EXAMPLE_FORMAT_PLAIN_TEXT,
        steps=request.steps,
        epochs=request.epochs or 1.0,
        context=request.context or min(CONTEXT, base.context_length or CONTEXT),
        recipe=Recipe(
            steps=1,
            learning_rate=request.learning_rate or (ADAPTER_RATE if adapter else RATE),
            batch=request.batch or BATCH,
            micro_batch=request.micro_batch,
            schedule=_SCHEDULES[request.schedule],
            warmup_steps=request.warmup_steps,
            weight_decay=request.weight_decay,
            clip=request.clip if request.HasField("clip") else 1.0,
            seed=request.seed,
            adapter=adapter,
            validate_every=request.validate_every,
        ),
        unmerged=lora.unmerged,
        checkpoint_every=request.checkpoint_every,
        labels=dict(request.labels),
        devices=request.devices,
    )


def _violations(request: pb.FineTuneRequest, base: ModelRecord) -> list[Violation]:
    wrong = []
    if not request.lora.unmerged and not request.model_id:
        wrong.append(Violation("model_id", "The new model needs an id."))
    if request.lora.unmerged and request.model_id:
        message = "An adapter that is kept apart is not registered: leave model_id out, or have it merged."
        wrong.append(Violation("model_id", message))
    if request.format not in pb.ExampleFormat.values():
        wrong.append(Violation("format", f"There is no format {request.format}; see the enum ExampleFormat."))
    if request.schedule not in _SCHEDULES:
        message = f"There is no schedule {request.schedule}; see the enum LearningRateSchedule."
        wrong.append(Violation("schedule", message))
    if 0 < base.context_length < request.context:
        message = f"{base.model_id!r} takes sequences of at most {base.context_length} tokens."
        wrong.append(Violation("context", message))
    if request.devices > (batch := request.batch or BATCH):
        message = f"A batch of {batch} examples cannot be shared by {request.devices} devices: raise batch."
        wrong.append(Violation("devices", message))
    if request.context == 1:
        message = "A sequence needs at least 2 tokens, so that one can be predicted."
        wrong.append(Violation("context", message))
    return wrong


def fine_tuned_message(made: FineTuningResult) -> pb.FineTuned:
    """What a fine-tuning made."""
    history = made.history
    return pb.FineTuned(
        model=made.model.message() if made.model else None,
        adapter=made.adapter.message() if made.adapter else None,
        steps=history.steps,
        effective_batch=history.effective_batch,
        devices=made.devices,
        examples=made.examples,
        counted_tokens=made.counted_tokens,
        first_loss=history.losses[0],
        last_loss=history.losses[-1],
        validation_loss=history.validation[-1][1] if history.validation else None,
        curve=made.curve.message(),
    )
