"""Relearning as an attack: a few steps of training on text that is not what is asked for afterwards.

What was only hidden comes back with little training: on the retain set alone, on a part of what was removed (Deeb and
Roger 2024: on some facts, measured on others), or on unrelated text (Hu et al. 2024). A model that was retrained
without it has nothing to bring back, so the gains of both under the same training are compared.
"""

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.progress import NullProgress, Progress
from palimpsest.training.batches import Example
from palimpsest.training.cross_entropy import CrossEntropy
from palimpsest.training.history import History
from palimpsest.training.loop import train
from palimpsest.training.recipe import Recipe
from palimpsest.training.saving import is_finite
from services.unlearning.attacks.outcomes import Attack

MOST_OVER_GUESSING = 2.0
"""Nats a token that the last loss may lie above ln V, the loss of guessing."""


def relearning(
    name: str,
    examples: Sequence[Example],
    recipe: Recipe,
    pad: int,
    *,
    measured: Mapping[str, Sequence[int]] | None = None,
    allowed: float = 5.0,
    progress: Progress | None = None,
) -> Attack:
    """Return the attack that trains a model on some examples before it is asked.

    Parameters
    ----------
    name
        Such as ``relearn/retain``.
    examples
        What it is trained on: the retain set, a part of the forget set, or unrelated text.
    recipe
        How; it trains the weights themselves.
    pad
        Token id that fills rows up.
    measured
        Items that count; see :func:`held_out` for a part of the forget set.
    allowed
        Points over a retrained model's gain that are tolerated: 5, and 10 for a part of the forget set.
    progress
        Told of steps; may raise to stop, and the weights are restored then too.

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: there are no examples, or the recipe trains an adapter, which would stay in the model.
    """
    if not examples or recipe.adapter is not None:
        message = f"The attack {name} needs examples to train on, and a recipe without an adapter."
        raise InvalidArgument(Reason.ATTACK_INVALID, message)
    return Attack(
        name,
        lambda module: relearned(module, examples, recipe, pad, progress),
        measured=measured,
        allowed=allowed,
    )


@contextmanager
def relearned(
    module: nn.Module, examples: Sequence[Example], recipe: Recipe, pad: int, progress: Progress | None = None
) -> Iterator[nn.Module]:
    """Train a module in place, and restore its weights bit for bit at the end.

    All of its parameters are trained, whether they asked for gradients or not. Needs memory for a second copy of them,
    gradients and the optimiser's state.

    Raises
    ------
    FailedPrecondition
        TRAINING_DIVERGED: a loss or a weight is not finite, or the last loss is above the first and exceeds that of
        guessing by :data:`MOST_OVER_GUESSING`. Such a model says nothing any more, whatever the one before it knows.
    """
    parameters = list(module.parameters())
    kept = [(parameter.detach().clone(), parameter.requires_grad) for parameter in parameters]
    try:
        module.requires_grad_(True)
        objective = CrossEntropy(examples, recipe, pad, parameters[0].device)
        history = train(module, objective, recipe, progress=progress or NullProgress())
        _require_sound(module, history, recipe)
        yield module
    finally:
        with torch.no_grad():
            for parameter, (original, required) in zip(parameters, kept, strict=True):
                parameter.copy_(original)
                parameter.requires_grad_(required)
                parameter.grad = None


def _require_sound(module: nn.Module, history: History, recipe: Recipe) -> None:
    guessing = math.log(module.get_output_embeddings().weight.shape[0])  # type: ignore[operator]
    first, last = history.losses[0], history.losses[-1]
    # A model that was unlearned hard begins far above guessing, and may still be on its way down.
    broken = last > max(first, guessing + MOST_OVER_GUESSING)
    if not (history.diverged or broken) and is_finite(module):
        return
    message = (
        f"Relearning diverged within {history.steps} of {recipe.steps} steps, from a loss of {first:.3g} nats a token "
        f"to {last:.3g}; lower its learning rate, or see whether the model itself has diverged."
    )
    raise FailedPrecondition(Reason.TRAINING_DIVERGED, message)


def part_of(
    examples: Sequence[Example], share: float, groups: Mapping[str, str] | None = None
) -> list[Example]:
    """Return the examples of a share of the documents, chosen by digests of their names: all of a document or none.

    Parameters
    ----------
    examples
        Named by document or pair.
    share
        Of the distinct names, such as 0.1; at least one is taken, and at least one is left.
    groups
        For names that stand or fall together, such as a document and the questions about it, the name of their group.

    Raises
    ------
    InvalidArgument
        ATTACK_INVALID: fewer than two groups, so that nothing would be left to measure.
    """
    groups = groups or {}
    names = sorted({groups.get(example.name, example.name) for example in examples}, key=_digest)
    if len(names) < 2:
        message = "A part of the forget set is relearned only where another part is left; name at least two documents."
        raise InvalidArgument(Reason.ATTACK_INVALID, message)
    chosen = set(names[: min(len(names) - 1, max(1, round(share * len(names))))])
    return [example for example in examples if groups.get(example.name, example.name) in chosen]


def held_out(relearned: Sequence[Example], items: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Positions of the items that are not of a document which was relearned.

    Parameters
    ----------
    relearned
        The examples of the attack.
    items
        For each metric, the document (as the examples are named) that each item is about.
    """
    return held_out_of({example.name for example in relearned}, items)


def held_out_of(known: Collection[str], items: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Positions of the items, named as in :func:`held_out`, that are not known."""
    return {
        metric: [position for position, name in enumerate(names) if name not in known]
        for metric, names in items.items()
    }


def _digest(name: str) -> bytes:
    return hashlib.sha256(f"relearned part\n{name}".encode()).digest()
