"""The attacks that every request is put through: coarse weights, and training on what was to be kept."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from palimpsest.progress import NullProgress, Progress
from services.unlearning.attacks.outcomes import Attack, Outcome, attack_model
from services.unlearning.attacks.quantisation import quantisation, round_to_nearest
from services.unlearning.attacks.recovery import KNOWLEDGE, VERBATIM, Metric
from services.unlearning.attacks.relearning import relearning
from services.unlearning.removal.measuring import Items, measure, values_of
from services.unlearning.removal.plan import LEARNING_RATE, ResolvedPlan

METRICS: tuple[Metric, ...] = (VERBATIM, KNOWLEDGE)
RELEARN = "relearn/retain"
_RELEARN_STEPS = 50


def attacks_of(plan: ResolvedPlan, progress: Progress) -> list[Attack]:
    """Attacks on the models of a plan; relearning needs a retain set."""
    found = [quantisation(round_to_nearest(bits, 32)) for bits in (8, 4)]
    retain = plan.sets.get("retain")
    if retain is not None:
        epoch = -(-len(retain.examples) // plan.recipe.batch)
        recipe = replace(
            plan.recipe,
            adapter=None,
            steps=min(epoch, _RELEARN_STEPS),
            learning_rate=LEARNING_RATE if plan.recipe.adapter else plan.recipe.learning_rate,
            schedule="constant",
            warmup_steps=0,
        )
        quiet = _Checking(progress)
        found.append(relearning(RELEARN, retain.examples, recipe, plan.pad, progress=quiet))
    return found


def attacked(
    module: nn.Module, tokenizer: Any, items: Items, attacks: list[Attack], progress: Progress
) -> dict[str, Outcome]:
    """Put a model through the attacks; nothing where there are not two items of any metric."""
    asked = items.fewer()
    if max(len(asked.verbatim), len(asked.questions)) < 2:
        return {}

    def scores(found: nn.Module) -> dict[str, NDArray[np.float64]]:
        measured = measure(found, tokenizer, asked, progress, intervals=False)
        return {score.metric: values_of(score) for score in measured if score.n >= 2}

    return attack_model(module, scores, attacks, progress)


class _Checking(NullProgress):
    """Interrupts as another progress does, and reports nothing: the steps of an attack are not those of the request."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def step(self, done: int, total: int, stage: str = "") -> None:
        """Check alone."""
        self._progress.check()

    def check(self) -> None:
        """Check."""
        self._progress.check()
