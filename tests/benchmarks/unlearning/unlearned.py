"""Unlearning a model of the lab until it knows no more than a retrained one, by any algorithm."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from palimpsest.progress import NullProgress
from palimpsest.training import Example, LoraSettings, Recipe
from palimpsest.training.adapters import merge
from palimpsest.training.cross_entropy import CrossEntropy
from services.unlearning.algorithms import Inputs
from services.unlearning.algorithms.cir import CirParameters, directions, move
from services.unlearning.algorithms.repselect import RepSelectParameters, selective_directions, walk
from services.unlearning.runs import Data, unlearn

BATCH = 8


@dataclass(frozen=True)
class Removal:
    """How one model is unlearned.

    Attributes
    ----------
    algorithm, values, learning_rate
        As in requests.
    most
        Epochs, rounds or strengths after which it ends in any case.
    start
        Name of the removal whose result it begins from.
    lora
        Rank of an adapter that is trained and merged; 0: the weights.
    stops
        Whether it ends when it knows no more of the forget set than the retrained model.
    """

    name: str
    algorithm: str
    values: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = 1e-4
    most: int = 20
    start: str = ""
    lora: int = 0
    stops: bool = True


def unlearned(
    module: Any, removal: Removal, data: Data, seed: int, enough: Callable[[nn.Module], bool]
) -> Any:
    """Unlearn a module, in place where the algorithm is.

    Parameters
    ----------
    module
        The model before.
    removal
        How.
    data
        Forget and retain set.
    seed
        Of the run.
    enough
        Asked after each epoch, round or strength whether to stop.
    """
    if removal.algorithm in ("repselect", "cir"):
        moved = module
        for moved in _walked(module, removal, data, seed):
            if enough(moved):
                break
        return moved
    over = data.retain if removal.algorithm == "undo" else data.forget
    epoch = -(-len(over) // BATCH)
    recipe = Recipe(
        steps=removal.most * epoch,
        learning_rate=removal.learning_rate,
        batch=BATCH,
        seed=seed,
        threads=1,
        adapter=LoraSettings(removal.lora) if removal.lora else None,
    )
    unlearn(
        module,
        removal.algorithm,
        data,
        recipe,
        progress=NullProgress(),
        parameters=removal.values,
        probe=lambda step: (step + 1) % epoch == 0 and enough(module),
    )
    if removal.lora:
        merge(module)
    return module


def _walked(module: Any, removal: Removal, data: Data, seed: int) -> Iterator[Any]:
    """The model further and further on the way of an algorithm that does not train."""
    inputs = Inputs(module, data.forget, data.retain, batch=BATCH, seed=seed, pad=data.pad)
    if removal.algorithm == "cir":
        given = CirParameters(**removal.values)
        for turn in range(removal.most):
            move(module, directions(given, inputs, turn), given.step)
            yield module
        return
    ways = selective_directions(RepSelectParameters(**removal.values), inputs)
    for number in range(removal.most):
        moved = copy.deepcopy(module)
        walk(moved, ways, 0.25 * 2 ** (number / 4))
        yield moved


def within_half_a_step(module: nn.Module, ids: Sequence[Example], steps: int, step_of: int = 32) -> nn.Module:
    """A copy unlearned by ascent that leaves every weight in its cell of the int4 grid, and the largest ones alone.

    It is quantised to the same weights as the module, bit for bit.
    """
    moved = copy.deepcopy(module)
    pairs = [
        pair
        for pair in zip(moved.named_parameters(), module.parameters(), strict=True)
        if "_proj" in pair[0][0]
    ]
    recipe = Recipe(steps=1, batch=BATCH)
    for number in range(steps):
        moved.zero_grad()
        CrossEntropy(ids, recipe, 0).loss(moved, number).backward()
        for (_, weight), start in pairs:
            groups = start.data.unflatten(1, (-1, step_of))
            step = groups.abs().amax(-1, keepdim=True) / 7
            cell = (groups / step).round() * step
            assert weight.grad is not None
            slopes = weight.grad.unflatten(1, (-1, step_of))
            pushed = weight.data.unflatten(1, (-1, step_of)) + 0.15 * step * slopes.sign()
            inner = groups.abs() < 6.4 * step  # the largest of a group decide its scale
            pushed = pushed.clamp(cell - 0.49 * step, cell + 0.49 * step)
            weight.data = pushed.where(inner, groups).flatten(1)
    moved.zero_grad()
    return moved
