"""Requests to train, as the training library takes them."""

import math

from palimpsest.api.models.v1 import models_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason, Violation
from palimpsest.models import ModelRecord
from palimpsest.training import LoraSettings, Recipe

BATCH = 8
CONTEXT = 1024
RATE, ADAPTER_RATE = 1e-5, 1e-4

_SCHEDULES = {
    pb.LEARNING_RATE_SCHEDULE_UNSPECIFIED: "constant",
    pb.LEARNING_RATE_SCHEDULE_CONSTANT: "constant",
    pb.LEARNING_RATE_SCHEDULE_COSINE: "cosine",
    pb.LEARNING_RATE_SCHEDULE_LINEAR: "linear",
}
_FIELDS = {"adapter.rank": "lora.rank"}
"""Fields of a request that are called otherwise in a recipe."""


def check_fine_tune(request: pb.FineTuneRequest, base: ModelRecord) -> None:
    """Refuse what can be known to be wrong before the examples are read.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST or TRAINING_RECIPE_INVALID; the violations name the fields.
    """
    wrong = []
    apart = request.HasField("lora") and request.lora.unmerged
    if not apart and not request.model_id:
        wrong.append(Violation("model_id", "The new model needs an id."))
    if apart and request.model_id:
        message = "An adapter that is kept apart is not registered: leave model_id out, or have it merged."
        wrong.append(Violation("model_id", message))
    for name, kind in (("format", pb.ExampleFormat), ("schedule", pb.LearningRateSchedule)):
        if getattr(request, name) not in kind.values():
            wrong.append(Violation(name, f"There is no {kind.DESCRIPTOR.name} {getattr(request, name)}."))
    if 0 < base.context_length < request.context:
        message = f"{base.model_id!r} takes sequences of at most {base.context_length} tokens."
        wrong.append(Violation("context", message))
    if request.context == 1:
        wrong.append(
            Violation("context", "A sequence needs at least 2 tokens, so that one can be predicted.")
        )
    if wrong:
        raise InvalidArgument(Reason.INVALID_REQUEST, wrong[0].description, violations=wrong)
    recipe_of(request, request.steps or 1, threads=1)


def recipe_of(request: pb.FineTuneRequest, steps: int, threads: int) -> Recipe:
    """How to train.

    Raises
    ------
    InvalidArgument
        TRAINING_RECIPE_INVALID.
    """
    lora = request.lora
    adapter = (
        LoraSettings(lora.rank or 8, lora.alpha, tuple(lora.targets)) if request.HasField("lora") else None
    )
    try:
        return Recipe(
            steps=steps,
            learning_rate=request.learning_rate or (ADAPTER_RATE if adapter else RATE),
            batch=request.batch or BATCH,
            micro_batch=request.micro_batch,
            schedule=_SCHEDULES.get(request.schedule, ""),
            warmup_steps=request.warmup_steps,
            weight_decay=request.weight_decay,
            clip=request.clip if request.HasField("clip") else 1.0,
            seed=request.seed,
            threads=threads,
            adapter=adapter,
            validate_every=request.validate_every,
        )
    except InvalidArgument as error:
        error.violations = tuple(
            Violation(_FIELDS.get(v.field, v.field), v.description) for v in error.violations
        )
        raise


def steps_of(request: pb.FineTuneRequest, examples: int) -> int:
    """Optimiser steps for a number of examples."""
    if request.WhichOneof("length") == "steps":
        return request.steps
    epochs = request.epochs or 1.0
    return max(1, math.ceil(epochs * -(-examples // (request.batch or BATCH))))


def context_of(request: pb.FineTuneRequest, base: ModelRecord) -> int:
    """Most tokens of an example."""
    return request.context or min(CONTEXT, base.context_length or CONTEXT)
