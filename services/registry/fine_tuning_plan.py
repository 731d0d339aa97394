"""What a fine-tuning is to do, and what came of it, as plain data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from palimpsest.artifacts import ArtifactInfo
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.models import ModelRecord
from palimpsest.training import History, Recipe


@dataclass(frozen=True)
class FineTuningPlan:
    """A fine-tuning, before its examples are read.

    Attributes
    ----------
    base, model_id
        Ids of the model to train and of the new one; the second is empty where the adapter is kept apart.
    train, validation
        Digests of the examples; the second may be empty.
    plain
        The examples are one document of plain text.
    steps, epochs
        How long: optimiser steps, or where they are 0 passes over the examples.
    context
        Most tokens of an example.
    recipe
        All else that decides the weights; its steps and threads are not known yet.
    unmerged
        Publish the adapter instead of a model.
    checkpoint_every
        Steps between two states; 0 for states by time.
    labels
        Of the new model.
    devices
        How many share each batch; 0 for all GPUs that the worker sees, or one CPU.
    """

    base: str
    model_id: str
    train: str
    validation: str
    plain: bool
    steps: int
    epochs: float
    context: int
    recipe: Recipe
    unmerged: bool = False
    checkpoint_every: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    devices: int = 0

    def recipe_for(self, examples: int, threads: int, devices: int = 1) -> Recipe:
        """How to train on a number of examples, with so many CPU threads on each of so many devices.

        Raises
        ------
        InvalidArgument
            TRAINING_RECIPE_INVALID: the warm-up is longer than the run.
        """
        an_epoch = -(-examples // self.recipe.batch)
        steps = self.steps or max(1, math.ceil(round(self.epochs * an_epoch, 6)))  # 1.1 * 10 is above 11
        if self.recipe.warmup_steps > steps:
            message = (
                f"A warm-up of {self.recipe.warmup_steps} steps never reaches the learning rate in a run of {steps}. "
                "Shorten it, or train longer."
            )
            raise InvalidArgument.field(Reason.TRAINING_RECIPE_INVALID, "warmup_steps", message)
        return replace(self.recipe, steps=steps, threads=threads, ranks=devices)

    def identity(self, base: ModelRecord) -> dict[str, Any]:
        """What the run is beside its recipe."""
        return {
            "objective": "cross-entropy/1",
            "model": base.fingerprint,
            "train": self.train,
            "validation": self.validation,
            "plain": self.plain,
            "context": self.context,
        }


@dataclass(frozen=True)
class FineTuningResult:
    """What a fine-tuning made.

    Attributes
    ----------
    history
        Its curves.
    curve
        The same, published.
    examples, counted_tokens
        Examples it saw, and their tokens that count.
    devices
        Devices that shared each batch.
    model, adapter
        One of the two: the new model, or the adapter that was kept apart.
    """

    history: History
    curve: ArtifactInfo
    examples: int
    counted_tokens: int
    devices: int
    model: ModelRecord | None = None
    adapter: ArtifactInfo | None = None
