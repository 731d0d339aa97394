"""One layer over rows, whoever makes the rows of a component and whatever the queries see."""

from collections.abc import Callable

import torch

from services.grafting.engine import Architecture

Apply = Callable[[str, torch.Tensor], torch.Tensor]
"""Makes of a component's input, [..., inputs], its output, [..., outputs]."""
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Makes of queries, keys and values, [..., heads, head_dim] each, not rotated, what ``o`` reads."""


def added(
    architecture: Architecture, layer: int, apply: Apply, attend: Attend, x: torch.Tensor
) -> torch.Tensor:
    """Return what a layer adds to its input.

    Parameters
    ----------
    architecture, layer
        Of the models, and its number.
    apply, attend
        The components and the attention between rows.
    x
        [..., hidden].

    Returns
    -------
    torch.Tensor
        [..., hidden].
    """
    h = apply("attention_norm", x)
    q, k, v = (apply(name, h).unflatten(-1, (-1, architecture.head_dim)) for name in ("q", "k", "v"))
    after = apply("o", attend(q, k, v))
    read = x if architecture.parallel else x + after
    h = apply("mlp_norm", read)
    act = architecture.activations[layer]
    inner = act(apply("gate", h)) * apply("up", h) if architecture.has_gate else act(apply("up", h))
    return after + apply("down", inner)
