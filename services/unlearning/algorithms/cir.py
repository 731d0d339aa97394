"""CIR, the collapse of irrelevant representations: updates that touch nothing that the retain set uses.

A weight's gradient is a sum of outer products: of the gradient at the output and of the input, token by token. What of
either lies among the principal components of the data to be kept serves that data too: to change it does harm, and a
little training on such data changes it back (after Sondej and Yang 2025, arXiv 2509.11816, which finds the components
on the texts at hand; here they are those of the retain set). For each MLP matrix W, in each of several rounds::

    A = mean_r a a^T      over the retain set's tokens r, a the input of W       U: leading k eigenvectors of A
    B = mean_r g g^T      g = d(sum_r nll_r) / d(W a), the gradient at its output       V: those of B
    G = d L / d W = sum_t g_t a_t^T       over the forget set, L = -mean_t p_t^beta nll_t  (WGA)
    G' = (1 - V V^T) G (1 - U U^T)
    W <- W - step ||W|| / ||G'|| G'       norms are over all MLP matrices together

Every row of W thus answers inputs in the span of U as before. The moments are not centred, so that the mean, which all
texts share, is a component as well. ``p_t`` takes no gradient: tokens that are forgotten drop out of the sum.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from palimpsest.lm.anatomy import anatomy_of
from palimpsest.progress import NullProgress, Progress
from palimpsest.training.batches import Batch, collate
from palimpsest.training.token_losses import is_separable, token_nll
from services.unlearning.algorithms.ascent import weighted_ascent
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.parameters import Parameters, number, whole

RETAIN_BATCHES = 32
"""Most batches of the retain set that components are found on, in each round others."""


@dataclass(frozen=True, kw_only=True)
class CirParameters(Parameters):
    """Hyper-parameters of CIR.

    Attributes
    ----------
    components
        k, the components that are left alone on each side: at most all but one. 0: none, plain normalised ascent.
    rounds
        How often components and gradient are computed.
    step
        Length of one round's change, relative to the norm of all MLP matrices.
    beta
        Power of the probability that weights tokens.
    """

    components: int = whole(32, 0, 4096)
    rounds: int = whole(10, 1, 1000)
    step: float = number(0.01, 0, 10)
    beta: float = number(1.0, 0, 100)


@dataclass(frozen=True, eq=False)
class Site:
    """One MLP matrix: its module, its weight, and whether that is stored as [inputs, outputs] (GPT-2's Conv1D)."""

    module: nn.Module
    weight: nn.Parameter
    transposed: bool


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of one matrix over retain tokens: of its inputs, and of the gradients at its outputs."""

    inputs: Tensor
    gradients: Tensor


def sites_of(module: nn.Module) -> dict[str, Site]:
    """MLP matrices by parameter name; a fused one (gate and up in one) once."""
    parts = [
        layer[part] for layer in anatomy_of(module).layers for part in ("gate", "up", "down") if part in layer
    ]
    found = {}
    for part in parts:
        holder: Any = part.module_of(module)
        found[f"{part.path}.weight"] = Site(holder, holder.weight, part.transposed)
    return found


def retain_moments(
    inputs: Inputs, first: int = 0, check: Callable[[], None] = lambda: None
) -> dict[str, Moments]:
    """Second moments of every MLP matrix's inputs and output gradients, over batches of the retain set.

    Parameters
    ----------
    inputs
        The model as it is now, and the retain set.
    first
        The retain set's step to begin with; an epoch of it is read, at most :data:`RETAIN_BATCHES` steps.
    check
        Called for each batch; may raise to stop.

    Returns
    -------
    dict
        By parameter name, over all tokens but padding.
    """
    sites = sites_of(inputs.module)
    is_separable(
        inputs.module, inputs.device
    )  # tried once, on tokens that are nobody's: now, with nobody listening
    sums = {
        name: Moments(*(site.weight.new_zeros(size, size) for size in _sizes(site)))
        for name, site in sites.items()
    }
    steps = min(RETAIN_BATCHES, -(-len(inputs.retain) // inputs.batch))
    tokens = 0
    for step in range(first, first + steps):
        check()
        batch = inputs.retain_batch(step)
        tokens += int(batch.attention.sum())
        with _trainable(sites), _observed(sites, sums, batch):
            loss = token_nll(inputs.module, batch).sum()
            torch.autograd.grad(loss, [site.weight for site in sites.values()])
    return {name: Moments(each.inputs / tokens, each.gradients / tokens) for name, each in sums.items()}


def leading(moment: Tensor, components: int) -> Tensor:
    """Leading eigenvectors of a second moment [n, n] as columns, [n, k]; at least one direction is left out."""
    count = min(components, len(moment) - 1)
    return torch.linalg.eigh(moment).eigenvectors[:, len(moment) - count :]


def projected(gradient: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """Take components out of a gradient [outputs, inputs]: ``inside`` [inputs, k], ``outside`` [outputs, k]."""
    gradient = gradient - (gradient @ inside) @ inside.T
    return gradient - outside @ (outside.T @ gradient)


def forget_gradients(
    inputs: Inputs, beta: float, check: Callable[[], None] = lambda: None
) -> dict[str, Tensor]:
    """Gradients of the forget loss over the whole forget set with respect to every MLP matrix, by parameter name."""
    sites = sites_of(inputs.module)
    weights = [site.weight for site in sites.values()]
    tokens = sum(sum(example.counted) for example in inputs.forget)
    total = [torch.zeros_like(weight) for weight in weights]
    for first in range(0, len(inputs.forget), inputs.batch):
        check()
        indices = range(first, min(first + inputs.batch, len(inputs.forget)))
        batch = collate(inputs.forget, indices, inputs.pad, inputs.device)
        counted = batch.counted[:, 1:]
        share = int(counted.sum()) / max(1, tokens)
        with _trainable(sites):
            loss = share * weighted_ascent(token_nll(inputs.module, batch), counted, beta)
            for summed, part in zip(total, torch.autograd.grad(loss, weights), strict=True):
                summed += part
    return dict(zip(sites, total, strict=True))


def directions(
    parameters: CirParameters, inputs: Inputs, turn: int = 0, check: Callable[[], None] = lambda: None
) -> dict[str, Tensor]:
    """Return G' of every MLP matrix in one round, by parameter name and in the weight's own shape."""
    sites = sites_of(inputs.module)
    moments = retain_moments(inputs, turn * RETAIN_BATCHES, check) if parameters.components else {}
    found = {}
    for name, gradient in forget_gradients(inputs, parameters.beta, check).items():
        if name in moments:
            inside = leading(moments[name].inputs, parameters.components)
            outside = leading(moments[name].gradients, parameters.components)
            gradient = (
                projected(gradient.T, inside, outside).T
                if sites[name].transposed
                else projected(gradient, inside, outside)
            )
        found[name] = gradient
    return found


def collapse(
    parameters: CirParameters,
    inputs: Inputs,
    progress: Progress | None = None,
    probe: Callable[[int], bool] | None = None,
) -> bool:
    """Carry CIR out on ``inputs.module``, in place; other weights than the MLPs' stay as they are.

    Parameters
    ----------
    parameters
        How.
    inputs
        The model, the forget set and the retain set.
    progress
        Told of every round; may raise to stop between two batches.
    probe
        Called after every round, counted from 0; True ends the run.

    Returns
    -------
    bool
        Whether the probe ended it.
    """
    progress = progress or NullProgress()
    for turn in range(parameters.rounds):
        progress.step(turn, parameters.rounds, "training")
        move(inputs.module, directions(parameters, inputs, turn, progress.check), parameters.step)
        if probe is not None and probe(turn):
            return True
    progress.step(parameters.rounds, parameters.rounds, "training")
    return False


@torch.no_grad()
def move(module: nn.Module, changes: Mapping[str, Tensor], step: float) -> None:
    """Move weights against directions, in place, by ``step`` times their norm; all norms are over all of them."""
    weights = dict(module.named_parameters())
    length = _norm([weights[name] for name in changes])
    scale = _norm(list(changes.values()))
    if scale == 0:  # everything is forgotten, or is shared with what is kept
        return
    for name, direction in changes.items():
        weights[name].sub_(step * length / scale * direction)


@contextlib.contextmanager
def _observed(sites: Mapping[str, Site], sums: Mapping[str, Moments], batch: Batch) -> Iterator[None]:
    """Add to the moments what goes through the matrices, forwards and backwards, while the context is open."""
    real = batch.attention.bool()

    def watch(moments: Moments) -> Callable[[nn.Module, Any, Tensor], None]:
        def seen(_: nn.Module, given: Any, output: Tensor) -> None:
            states = given[0].detach()[real]  # [tokens, inputs]
            moments.inputs.addmm_(states.T, states)
            output.register_hook(returned)

        def returned(slope: Tensor) -> None:
            slopes = slope[real]  # [tokens, outputs]
            moments.gradients.addmm_(slopes.T, slopes)

        return seen

    hooks = [site.module.register_forward_hook(watch(sums[name])) for name, site in sites.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _trainable(sites: Mapping[str, Site]) -> Iterator[None]:
    """Let the matrices take gradients for a while."""
    required = {name: site.weight.requires_grad for name, site in sites.items()}
    try:
        for site in sites.values():
            site.weight.requires_grad_(True)
        yield
    finally:
        for name, site in sites.items():
            site.weight.requires_grad_(required[name])


def _sizes(site: Site) -> tuple[int, int]:
    """Inputs and outputs."""
    outputs, inputs = site.weight.shape
    return (outputs, inputs) if site.transposed else (inputs, outputs)


def _norm(tensors: list[Tensor]) -> float:
    return torch.stack([tensor.detach().norm() for tensor in tensors]).norm().item()
