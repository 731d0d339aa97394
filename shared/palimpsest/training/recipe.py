"""How to train, as data: what decides a run's result beside the weights, the data and the objective."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from palimpsest.errors import InvalidArgument, Reason, Violation

SCHEDULES = ("constant", "cosine", "linear")
"""Shapes of the learning rate after the warm-up: held, or falling to 0 at the last step."""

ALL_LINEAR = "all-linear"
"""Adapters at every linear layer except the head."""


@dataclass(frozen=True)
class LoraSettings:
    """A low-rank adapter (Hu et al. 2021): each chosen matrix becomes W + (alpha / rank) B A, and only A and B train.

    Attributes
    ----------
    rank, alpha
        As above; alpha 0 stands for twice the rank.
    targets
        Names of layers to adapt, as the last parts of their paths (``("q_proj", "v_proj")``), or nothing for all linear
        layers. The embedding and the head are never adapted: where they are tied, merging would change both.
    """

    rank: int = 8
    alpha: float = 0.0
    targets: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """Alpha, with its default."""
        return self.alpha or 2.0 * self.rank


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes
    ----------
    steps
        Optimiser steps.
    learning_rate
        The highest; AdamW's.
    batch
        Examples of one optimiser step: the effective batch.
    micro_batch
        Most examples of one forward pass; 0 for all of the batch. Gradients of the passes are summed before the step,
        so it decides the memory and nothing else.
    schedule
        One of ``SCHEDULES``.
    warmup_steps
        Steps at the start in which the learning rate rises linearly.
    weight_decay
        AdamW's, on matrices; biases and the weights of norms have none.
    betas, epsilon
        AdamW's.
    clip
        Largest norm of the gradient; 0 for no limit.
    seed
        Decides the order of examples and every other random number.
    threads
        CPU threads; 0 leaves them as they are. Sums depend on their number in the last bits, so a run that goes on
        elsewhere with exactly the same result needs this set.
    adapter
        Train a low-rank adapter instead of the weights.
    validate_every
        Steps between two values of the validation curve, which also has the last step's; 0 for the last alone.
    ranks
        Processes that share each batch, on a device each. Like threads, their number is in the last bits of the result.

    Raises
    ------
    InvalidArgument
        TRAINING_RECIPE_INVALID; the violations name the fields.
    """

    steps: int
    learning_rate: float = 1e-5
    batch: int = 8
    micro_batch: int = 0
    schedule: str = "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    clip: float = 1.0
    seed: int = 0
    threads: int = 1
    adapter: LoraSettings | None = None
    validate_every: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        least = {
            "steps": 1,
            "batch": 1,
            "micro_batch": 0,
            "warmup_steps": 0,
            "threads": 0,
            "validate_every": 0,
            "ranks": 1,
        }
        wrong = [
            Violation(name, f"{name} is {getattr(self, name)}; it must be at least {bound}.")
            for name, bound in least.items()
            if getattr(self, name) < bound
        ]
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            wrong.append(Violation("learning_rate", "learning_rate must be a positive number."))
        if self.schedule not in SCHEDULES:
            wrong.append(Violation("schedule", f"schedule must be one of {', '.join(SCHEDULES)}."))
        for name in ("weight_decay", "clip"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                wrong.append(Violation(name, f"{name} must be 0 or a positive number."))
        if not all(0 <= beta < 1 for beta in self.betas):
            wrong.append(Violation("betas", "betas must be at least 0 and below 1."))
        if self.ranks > self.batch > 0:
            message = (
                f"A batch of {self.batch} cannot be shared by {self.ranks} ranks: take fewer, or raise batch."
            )
            wrong.append(Violation("ranks", message))
        if self.adapter is not None and self.adapter.rank < 1:
            wrong.append(Violation("adapter.rank", "The rank of an adapter must be at least 1."))
        if wrong:
            message = f"The recipe cannot be followed: {wrong[0].description}"
            raise InvalidArgument(Reason.TRAINING_RECIPE_INVALID, message, violations=wrong)

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        left = (self.steps - step) / max(
            1, self.steps - self.warmup_steps
        )  # 1 after the warm-up, falling to 0
        return self.learning_rate * (
            left if self.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2
        )

    def facts(self) -> dict[str, Any]:
        """All of it as JSON-able data; of a run on one device what it was before there were ranks."""
        facts = {**asdict(self), "betas": list(self.betas)}
        if self.adapter:
            facts["adapter"] = {**asdict(self.adapter), "targets": list(self.adapter.targets)}
        if self.ranks == 1:
            del facts["ranks"]
        return facts

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Recipe":
        """Read what ``facts`` returned; a missing field has its default.

        Raises
        ------
        InvalidArgument
            TRAINING_RECIPE_INVALID.
        """
        known = {field.name for field in fields(cls)}
        values = {key: value for key, value in facts.items() if key in known}
        if "betas" in values:
            values["betas"] = tuple(values["betas"])
        if values.get("adapter"):
            adapter = dict(values["adapter"])
            values["adapter"] = LoraSettings(**{**adapter, "targets": tuple(adapter.get("targets", ()))})
        return cls(**values)
