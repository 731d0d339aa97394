"""RepSelect: walk along the forget set's weight gradient without its leading principal components.

Those components are shared with everything else the model knows: to change them harms it, and a few steps of
fine-tuning restore them (Sondej, Yang and Mahdi 2026, arXiv 2606.17168). For each MLP matrix W::

    G      gradient of -(mean_t nll_t) over the forget set, with k leading singular triples u_i s_i v_i^T
    hard   G' = (1 - U U^T) G (1 - V V^T)
    soft   on each side, the part along component i times s_k / s_i
    W     <- W - strength G'

The gradient is taken once, at the weights before the request, and the walk is straight: like a task vector, it is swept
over ``strength``. While it is taken, a small adapter is attached that was trained for an epoch to say more of the
forget set, so that what relearning would bring back is in the gradient as well; it is thrown away.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from palimpsest.lm.anatomy import anatomy_of
from palimpsest.training.adapters import attach, remove
from palimpsest.training.batches import collate
from palimpsest.training.order import derived_seed
from palimpsest.training.recipe import LoraSettings
from palimpsest.training.token_losses import token_nll
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import mean_nll
from services.unlearning.algorithms.parameters import Parameters, choice, number, whole


@dataclass(frozen=True, kw_only=True)
class RepSelectParameters(Parameters):
    """Hyper-parameters of RepSelect.

    Attributes
    ----------
    components
        k, the principal components that are collapsed; at most the gradient's rank.
    collapse
        "soft", the paper's; "hard"; "none", for comparison: plain gradient ascent.
    strength
        How far to walk.
    elicitation
        Learning rate of the adapter (plain gradient descent); 0: no adapter.
    """

    components: int = whole(32, 1, 4096)
    collapse: str = choice("soft", "soft", "hard", "none")
    strength: float = number(1.0, 0, 1e6)
    elicitation: float = number(0.01, 0, 100)


def collapsed(gradient: Tensor, components: int, mode: str, seed: int = 0) -> Tensor:
    """Collapse a gradient's leading principal components on both sides.

    Parameters
    ----------
    gradient
        [outputs, inputs], floating point.
    components
        How many.
    mode
        "soft", "hard" or "none".
    seed
        Of the randomised decomposition, which large matrices get.
    """
    if mode == "none":
        return gradient
    u, s, v = _leading(gradient, min(components, *gradient.shape), seed)
    if mode == "hard":
        keep = torch.zeros_like(s)
    else:
        # Past the rank there is only rounding; levelled to that, nothing would be left of the rest.
        real = s > s[0] * max(gradient.shape) * torch.finfo(s.dtype).eps
        keep = torch.where(real, s[real].min() / s, 1.0) if real.any() else torch.ones_like(s)
    inside = gradient - (gradient @ v) * (1 - keep) @ v.T
    return inside - u * (1 - keep) @ (u.T @ inside)


def forget_gradients(inputs: Inputs) -> dict[str, Tensor]:
    """Gradients of minus the forget set's mean token NLL with respect to every MLP matrix, by parameter name.

    The model's parameters and their ``grad`` are left as they are.
    """
    module = inputs.module
    wanted = _mlp_matrices(module)
    tokens = sum(sum(example.counted) for example in inputs.forget)
    total = {name: torch.zeros_like(weight) for name, weight in wanted.items()}
    required = {name: weight.requires_grad for name, weight in wanted.items()}
    try:
        for weight in wanted.values():
            weight.requires_grad_(True)
        for first in range(0, len(inputs.forget), inputs.batch):
            indices = range(first, min(first + inputs.batch, len(inputs.forget)))
            batch = collate(inputs.forget, indices, inputs.pad, inputs.device)
            loss = -token_nll(module, batch).sum() / max(1, tokens)
            for name, part in zip(wanted, torch.autograd.grad(loss, list(wanted.values())), strict=True):
                total[name] += part
    finally:
        for name, weight in wanted.items():
            weight.requires_grad_(required[name])
    return total


def selective_directions(parameters: RepSelectParameters, inputs: Inputs) -> dict[str, Tensor]:
    """Return G' of every MLP matrix, by parameter name."""
    with elicited(inputs, parameters.elicitation):
        gradients = forget_gradients(inputs)
    return {
        name: collapsed(
            gradient, parameters.components, parameters.collapse, derived_seed(inputs.seed, "svd", name)
        )
        for name, gradient in gradients.items()
    }


@contextlib.contextmanager
def elicited(inputs: Inputs, learning_rate: float) -> Iterator[None]:
    """Attach an adapter to the MLPs for a while, trained for an epoch of the forget set; 0: attach none.

    Raises
    ------
    FailedPrecondition
        ADAPTER_ATTACHED: the model has an adapter already.
    """
    if not learning_rate:
        yield
        return
    module = inputs.module
    targets = {name.removesuffix(".weight").rpartition(".")[2] for name in _mlp_matrices(module)}
    required = {name: weight.requires_grad for name, weight in module.named_parameters()}
    settings = LoraSettings(rank=_RANK, alpha=_RANK, targets=tuple(sorted(targets)))
    attach(module, settings, derived_seed(inputs.seed, "elicitation"))
    try:
        trained = [weight for weight in module.parameters() if weight.requires_grad]
        for step in range(inputs.steps_per_epoch):
            loss = mean_nll(module, inputs.forget_batch(step))
            for weight, slope in zip(trained, torch.autograd.grad(loss, trained), strict=True):
                weight.data -= learning_rate * slope
        yield
    finally:
        remove(module)
        for name, weight in module.named_parameters():
            weight.requires_grad_(required[name])


@torch.no_grad()
def walk(module: nn.Module, directions: Mapping[str, Tensor], strength: float) -> None:
    """Move a module's weights along directions by parameter name, in place."""
    weights = dict(module.named_parameters())
    for name, direction in directions.items():
        weights[name].sub_(strength * direction)


def _mlp_matrices(module: nn.Module) -> dict[str, nn.Parameter]:
    parts = [
        layer[part] for layer in anatomy_of(module).layers for part in ("gate", "up", "down") if part in layer
    ]
    wanted = {id(cast(Any, part.module_of(module)).weight) for part in parts}
    # Within an adapter's layer, a matrix has another name than without.
    return {
        name.replace(".base_layer.", "."): weight
        for name, weight in module.named_parameters()
        if id(weight) in wanted
    }


_RANK = 8
"""Of the adapter, with a scale of 1."""

_EXACT = 1024
"""Matrices with a side no longer than this are decomposed exactly."""


def _leading(gradient: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular vectors and values: [outputs, count], [count], [inputs, count]."""
    if min(gradient.shape) <= _EXACT:
        u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
        return u[:, :count], s[:count], vh[:count].T
    with torch.random.fork_rng(devices=[gradient.device] if gradient.is_cuda else []):
        torch.manual_seed(seed)
        return torch.svd_lowrank(gradient, q=count)
