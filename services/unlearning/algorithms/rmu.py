"""RMU: hidden states of the forget set are steered to a random direction, those of the retain set held.

With h the hidden states after block l, of ``size`` features, and u a random unit vector, the same for the whole run::

    forget   mean_t |h(F)_t - c u|^2 / size
    retain   mean_t |h(R)_t - h_ref(R)_t|^2 / size

over every token that is not padding (Li et al. 2024, arXiv 2403.03218; divided by the size as in its code). Only the
matrices that write into the stream out of the MLPs of blocks l - 2 to l are trained.

The reference's states of the retain set are computed once and kept, tokens x size numbers: no second model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm.anatomy import anatomy_of, blocks_of
from palimpsest.training.batches import Batch, Example, collate
from palimpsest.training.order import derived_seed
from services.unlearning.algorithms.inputs import Inputs
from services.unlearning.algorithms.objective import Combined
from services.unlearning.algorithms.parameters import Parameters, choice, number, whole

TRAINED_BLOCKS = 3
"""Blocks whose matrices are trained, the last of them the one whose output is steered."""


@dataclass(frozen=True, kw_only=True)
class RmuParameters(Parameters):
    """Hyper-parameters of RMU. Both the block and the length need a sweep on another model.

    Attributes
    ----------
    layer
        Block after which states are steered, from 0; None: a third of the way up.
    steering
        c, the length of the target; 0: ``relative`` times the mean length of the forget set's states before the run.
    relative
        See ``steering``.
    trained
        "down": the last MLP matrices of three blocks; "all": every parameter.
    gamma, alpha
        Weights of the forget term and the retain term.
    """

    layer: int | None = whole(None, 0, 10_000)
    steering: float = number(0.0, 0, 1e6)
    relative: float = number(6.0, 0, 1000, above=True)
    trained: str = choice("down", "down", "all")
    gamma: float = number(1.0, 0, 1000)
    alpha: float = number(5.0, 0, 100_000)


def hidden_states(module: Any, batch: Batch, layer: int) -> Tensor:
    """Hidden states after a block: [batch, tokens, size], with a graph if gradients are enabled."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    hook = blocks_of(module)[layer].register_forward_hook(keep)
    try:
        module.base_model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False)
    finally:
        hook.remove()
    return found[0]


def mean_square(states: Tensor, target: Tensor, attention: Tensor) -> Tensor:
    """Mean squared difference of states [batch, tokens, size] from a target that broadcasts, over real tokens."""
    squares = ((states - target) ** 2).mean(dim=-1)  # (batch, tokens)
    return (squares * attention).sum() / attention.sum()


def direction(size: int, seed: int) -> Tensor:
    """Draw u: float32 [size] of length 1 with no negative entry."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "rmu"))
    vector = torch.rand(size, generator=generator)
    return vector / vector.norm()


def build_rmu(parameters: RmuParameters, inputs: Inputs) -> Combined:
    """RMU; call it before the module is trained.

    Raises
    ------
    InvalidArgument
        ALGORITHM_PARAMETER_INVALID: the model has no block of that number.
    FailedPrecondition
        MODEL_INVALID: the model's parts are not known.
    """
    reference = inputs.reference or inputs.module
    count = len(blocks_of(inputs.module))
    layer = count // 3 if parameters.layer is None else parameters.layer
    if layer >= count:
        message = f"layer is {layer}, and the model's blocks are numbered 0 to {count - 1}."
        raise InvalidArgument.field(Reason.ALGORITHM_PARAMETER_INVALID, "layer", message)
    kept = _states(reference, inputs.retain, layer, inputs)
    length = parameters.steering or parameters.relative * _mean_length(reference, layer, inputs)
    target = length * direction(kept[0].shape[-1], inputs.seed).to(kept[0])

    def forget(module: nn.Module, step: int) -> Tensor:
        batch = inputs.forget_batch(step)
        return mean_square(hidden_states(module, batch, layer), target, batch.attention)

    def retain(module: nn.Module, step: int) -> Tensor:
        batch = inputs.retain_batch(step)
        states = hidden_states(module, batch, layer)
        fixed = torch.zeros_like(states)
        for row, item in enumerate(batch.items.tolist()):
            fixed[row, : len(kept[item])] = kept[item]
        return mean_square(states, fixed, batch.attention)

    names = _trained(inputs.module, layer) if parameters.trained == "down" else None
    return Combined(forget, parameters.gamma, retain, parameters.alpha, names)


@torch.no_grad()
def _states(module: nn.Module, examples: Sequence[Example], layer: int, inputs: Inputs) -> list[Tensor]:
    """States of each example of a set: [tokens, size] each."""
    found = []
    for first in range(0, len(examples), inputs.batch):
        indices = range(first, min(first + inputs.batch, len(examples)))
        states = hidden_states(module, collate(examples, indices, inputs.pad, inputs.device), layer)
        found += [row[: len(examples[i].ids)].clone() for i, row in zip(indices, states, strict=True)]
    return found


def _mean_length(module: nn.Module, layer: int, inputs: Inputs) -> float:
    lengths = [states.norm(dim=-1) for states in _states(module, inputs.forget, layer, inputs)]
    return torch.cat(lengths).mean().item()


def _trained(module: nn.Module, layer: int) -> tuple[str, ...]:
    layers = anatomy_of(module).layers[max(0, layer + 1 - TRAINED_BLOCKS) : layer + 1]
    wanted = {id(cast(Any, parts["down"].module_of(module)).weight) for parts in layers}
    return tuple(name for name, weight in module.named_parameters() if id(weight) in wanted)
