"""RepSelect: walk along the forget set's weight gradient without its leading principal components.

Those components are shared with everything else the model knows: to change them harms it, and a few steps of fine-tuning
restore them (Sondej, Yang and Mahdi 2026, section 4). For each MLP matrix W with the gradient G of the forget set's mean
log-likelihood's negative, and its k leading singular triples ``u_i s_i v_i^T``::

    hard   G' = (1 - U U^T) G (1 - V V^T)
    soft   on each side the part along component i is multiplied by s_k / s_i
    W     <- W - strength G',  G = grad of -(mean_t nll_t)

The gradient is taken once, at the weights before the request, and the walk is straight: like a task vector, it is swept
over ``strength``. The paper takes the gradient beside a small adapter that was first trained to say more of the forget
set; that is left out here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from palimpsest.lm.anatomy import anatomy_of
from palimpsest.training.batches import collate
from palimpsest.training.order import derived_seed
from palimpsest.training.token_losses import token_nll
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.parameters import Parameters, choice, number, whole


@dataclass(frozen=True, kw_only=True)
class RepSelectParameters(Parameters):
    """Hyper-parameters of RepSelect.

    Attributes
    ----------
    components
        k, the principal components that are collapsed; at most a matrix's rank.
    collapse
        "soft", the paper's; "hard"; "none", for comparison: plain gradient ascent.
    strength
        How far to walk.
    """

    components: int = whole(32, 1, 4096)
    collapse: str = choice("soft", "soft", "hard", "none")
    strength: float = number(1.0, 0, 1e6)


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
        # Of components that are numerically zero there is nothing to collapse.
        keep = torch.where(s > 0, s[s > 0].min() / s.clamp(min=torch.finfo(s.dtype).tiny), 1.0)
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
    return {
        name: collapsed(
            gradient, parameters.components, parameters.collapse, derived_seed(inputs.seed, "svd", name)
        )
        for name, gradient in forget_gradients(inputs).items()
    }


@torch.no_grad()
def walk(module: nn.Module, directions: Mapping[str, Tensor], strength: float) -> None:
    """Move a module's weights along directions by parameter name, in place."""
    weights = dict(module.named_parameters())
    for name, direction in directions.items():
        weights[name].sub_(strength * direction)


def _mlp_matrices(module: nn.Module) -> dict[str, nn.Parameter]:
    parts = [layer[part] for layer in anatomy_of(module).layers for part in ("gate", "up", "down") if part in layer]
    wanted = {id(cast(Any, part.module_of(module)).weight) for part in parts}
    return {name: weight for name, weight in module.named_parameters() if id(weight) in wanted}


_EXACT = 512
"""Matrices with a side no longer than this are decomposed exactly."""


def _leading(gradient: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular vectors and values: [outputs, count], [count], [inputs, count]."""
    if min(gradient.shape) <= _EXACT:
        u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
        return u[:, :count], s[:count], vh[:count].T
    with torch.random.fork_rng(devices=[gradient.device] if gradient.is_cuda else []):
        torch.manual_seed(seed)
        return torch.svd_lowrank(gradient, q=count)
