"""The attacks of a request, made of its data and its items, and put to one model after another."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from palimpsest.progress import NullProgress, Progress
from palimpsest.training.batches import Example
from services.unlearning.attacks.outcomes import Attack, Outcome, attack_model
from services.unlearning.attacks.quantisation import (
    GGUF_FORMATS,
    Scheme,
    gguf_format,
    quantisation,
    standard_schemes,
)
from services.unlearning.attacks.recovery import KNOWLEDGE, VERBATIM, Metric
from services.unlearning.attacks.related import related
from services.unlearning.attacks.relearning import held_out_of, part_of, relearning
from services.unlearning.removal.asking import asking_attack, hindered
from services.unlearning.removal.attack_plan import PART, RETAIN, UNRELATED, groups_of
from services.unlearning.removal.measuring import Items, measure, values_of
from services.unlearning.removal.plan import ResolvedPlan
from services.unlearning.workspace import Workspace

METRICS: tuple[Metric, ...] = (VERBATIM, KNOWLEDGE)
SHARE = 0.1
"""Of the forget set's documents, relearned by ``relearn/part``."""
_STEPS = 50
"""Most steps of a training that the plan gives no number for."""
_EPOCHS = {PART: 5}
"""Passes over the data, where it is not one."""
_SCHEMES: dict[str, Callable[[], Scheme]] = {
    **{scheme.name: (lambda scheme=scheme: scheme) for scheme in standard_schemes()},
    **{name: (lambda name=name: gguf_format(name)) for name in GGUF_FORMATS},
}


def attacks_of(
    plan: ResolvedPlan, items: Items, tokenizer: Any, module: nn.Module, progress: Progress
) -> list[Attack]:
    """Make the attacks of a plan.

    Parameters
    ----------
    plan
        The request's.
    items
        Of its measurements; attacks ask fewer of them.
    tokenizer, module
        Of any of the models: they end texts alike.
    progress
        Of the request; training within an attack checks it.
    """
    asked = items.fewer()
    found = []
    for name in plan.attacks.names:
        if name in _SCHEMES:
            found.append(quantisation(_SCHEMES[name]()))
        elif name in (RETAIN, PART, UNRELATED):
            found.append(_relearning(name, plan, asked, progress))
        else:
            found.append(asking_attack(name, plan, asked, tokenizer, module, progress))
    return found


def attacked(
    module: nn.Module,
    tokenizer: Any,
    items: Items,
    attacks: Sequence[Attack],
    progress: Progress,
    space: Workspace,
    name: str,
) -> dict[str, Outcome]:
    """Put a model through the attacks, each once in all attempts; nothing where there are not two items of any metric.

    Parameters
    ----------
    module, tokenizer
        The model.
    items, attacks
        What it is asked, and how.
    progress
        Of the request.
    space, name
        Where outcomes are kept, and under which name.
    """
    asked = items.fewer()
    if max(len(asked.verbatim), len(asked.questions)) < 2:
        return {}

    def scores(found: nn.Module) -> dict[str, NDArray[np.float64]]:
        measured = measure(found, tokenizer, asked, progress, intervals=False)
        return {score.metric: values_of(score) for score in measured if score.n >= 2}

    found: dict[str, Any] = space.read(name) or {}

    def keep(outcome: Outcome) -> None:
        found[outcome.attack] = outcome.facts()
        space.write(name, found)

    known = {attack: Outcome.of(facts) for attack, facts in found.items()}
    return attack_model(module, scores, attacks, progress, known=known, keep=keep)


def _relearning(name: str, plan: ResolvedPlan, asked: Items, progress: Progress) -> Attack:
    examples, measured = _training(name, plan, asked)
    if measured is not None and not any(measured.values()):
        message = (
            "Fewer than two items are left once those are taken out that the attack itself teaches: of the same "
            "documents, or near duplicates."
        )
        return hindered(name, [metric.name for metric in METRICS], message)
    chosen = plan.attacks
    passes = _EPOCHS.get(name, 1) * -(-len(examples) // plan.recipe.batch)
    recipe = replace(
        plan.recipe,
        adapter=None,
        steps=chosen.steps or min(passes, _STEPS),
        learning_rate=chosen.learning_rate,
        schedule="constant",
        warmup_steps=0,
        seed=chosen.seed,
    )
    allowed = 10.0 if name == PART else 5.0
    return relearning(
        name, examples, recipe, plan.pad, measured=measured, allowed=allowed, progress=_Checking(progress)
    )


def _training(
    name: str, plan: ResolvedPlan, asked: Items
) -> tuple[Sequence[Example], dict[str, list[int]] | None]:
    """What an attack trains on, and the positions of the items that this does not teach; None: of all of them."""
    if name == RETAIN:
        return plan.sets["retain"].examples, None
    if name == UNRELATED:
        assert plan.attacks.unrelated is not None
        return plan.attacks.unrelated.examples, None
    forget = plan.forget
    examples = part_of(forget.examples, SHARE, groups_of(forget.source))
    taught = related(
        {example.name for example in examples},
        {entry: text for entry, _, text in forget.source.texts()},
        forget.source.about,
    )
    left = held_out_of(
        taught,
        {
            VERBATIM.name: [each.id for each in asked.verbatim],
            KNOWLEDGE.name: [each.id for each in asked.questions],
        },
    )
    # From one item nothing can be resampled.
    return examples, {metric: places if len(places) > 1 else [] for metric, places in left.items()}


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
