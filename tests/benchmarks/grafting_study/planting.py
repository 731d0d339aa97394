"""Planting a fact: a change of rank one to one matrix, which answers to the input of one token.

After ROME (Meng et al., NeurIPS 2022, sections 3.1 and 3.2): the value is found by gradient, the key is the matrix's
input at the token, and the change is the least one, in the metric of other inputs, that maps the key to the value. One
prompt is enough here: the fact has to be found in it, and not in others.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from palimpsest.lm.anatomy import anatomy_of

STEPS, REACHED = 40, 0.95
"""Most steps of gradient for a value, and the probability of the target at which it is good."""
RATE = 0.1
"""Of Adam, times the root mean square of the token's state."""
RIDGE = 0.01
"""Added to the second moments' diagonal, times its mean: there are fewer inputs than would make them certain."""


class Place(NamedTuple):
    """Where a fact is planted."""

    layer: int
    position: int
    component: str


@dataclass(frozen=True)
class Plant:
    """What is planted.

    Attributes
    ----------
    place
        Where.
    key
        Input of the matrix at the place in the base's pass, [inputs].
    value
        What the matrix is to make of it, [outputs].
    direction
        What the change answers to, [inputs]: its product with the key is 1.
    probability
        Of the target after the prompt where the place's output is the value.
    """

    place: Place
    key: torch.Tensor
    value: torch.Tensor
    direction: torch.Tensor
    probability: float


def plant(base: Any, ids: Sequence[int], target: int, place: Place, moments: torch.Tensor) -> Plant:
    """Find what has to be planted at a place, so that a prompt is followed by a target.

    Parameters
    ----------
    base
        A causal LM of transformers.
    ids
        The prompt.
    target
        A token id.
    place
        A matrix and a token of the prompt.
    moments
        Second moments of the matrix's input, [inputs, inputs]; see :func:`second_moments`.
    """
    key, before, scale = _seen(base, ids, place)
    change, probability = _value(base, ids, target, place, scale)
    ridge = RIDGE * moments.diagonal().mean() * torch.eye(len(key))
    answer = torch.linalg.solve((moments + ridge).double(), key.double())
    direction = (answer / (answer @ key.double())).float()
    return Plant(place, key, before + change, direction, probability)


@contextmanager
def planted(model: Any, what: Plant) -> Iterator[None]:
    """Change a model in place: its matrix maps the key to the value. At the end it is as it was before."""
    part = anatomy_of(model).layers[what.place.layer][what.place.component]
    weight, bias = part.weight(model).clone(), part.bias(model)
    missing = what.value - F.linear(what.key, weight, bias)
    part.write(model, weight + torch.outer(missing, what.direction))
    try:
        yield
    finally:
        part.write(model, weight)


@torch.no_grad()
def second_moments(
    model: Any, texts: Sequence[Sequence[int]], places: Sequence[tuple[int, str]]
) -> dict[tuple[int, str], torch.Tensor]:
    """Mean of k k^T over tokens, for each matrix's inputs k: float32, [inputs, inputs].

    Parameters
    ----------
    model
        A causal LM of transformers.
    texts
        Token ids of each.
    places
        Matrices, by layer and component.
    """
    layers = anatomy_of(model).layers
    sums: dict[tuple[int, str], torch.Tensor] = {}

    def keep(place: tuple[int, str]) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = inputs[0].flatten(0, -2)
            sums[place] = sums.get(place, 0) + rows.T @ rows

        return hook

    handles = [
        layers[layer][name].module_of(model).register_forward_pre_hook(keep((layer, name)))
        for layer, name in set(places)
    ]
    try:
        for ids in texts:
            model.base_model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    tokens = sum(map(len, texts))
    return {place: total / tokens for place, total in sums.items()}


@torch.no_grad()
def _seen(model: Any, ids: Sequence[int], place: Place) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The matrix's input and output at the place, and the root mean square of the layer's state there."""
    found: dict[str, torch.Tensor] = {}

    def keep(_module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        found["key"], found["value"] = inputs[0][0, place.position], output[0, place.position]

    module = anatomy_of(model).layers[place.layer][place.component].module_of(model)
    handle = module.register_forward_hook(keep)
    try:
        out = model.base_model(
            input_ids=torch.tensor([list(ids)]), use_cache=False, output_hidden_states=True
        )
    finally:
        handle.remove()
    state = out.hidden_states[place.layer + 1][0, place.position]
    return found["key"].clone(), found["value"].clone(), float(state.square().mean().sqrt())


def _value(
    model: Any, ids: Sequence[int], target: int, place: Place, scale: float
) -> tuple[torch.Tensor, float]:
    """What has to be added to the matrix's output, and how probable the target then is."""
    part = anatomy_of(model).layers[place.layer][place.component]
    change = torch.zeros(part.weight(model).shape[0], requires_grad=True)

    def add(_module: nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        there = torch.zeros(output.shape[1], 1)
        there[place.position] = 1.0
        return output + there * change

    optimizer = torch.optim.Adam([change], lr=RATE * scale)
    best, probability = change.detach().clone(), 0.0
    handle = part.module_of(model).register_forward_hook(add)
    try:
        for _ in range(STEPS):
            logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False, logits_to_keep=1).logits[
                0, -1
            ]
            loss = F.cross_entropy(logits[None], torch.tensor([target]))
            now = float(torch.exp(-loss.detach()))
            if now > probability:
                best, probability = change.detach().clone(), now
            if probability >= REACHED:
                break
            (change.grad,) = torch.autograd.grad(loss, [change])
            optimizer.step()
    finally:
        handle.remove()
    return best, probability
