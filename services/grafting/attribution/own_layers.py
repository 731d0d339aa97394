"""What a graft of one layer changes, computed exactly in that layer and to first order after it.

A slope takes attention as linear, where a changed query or key may turn it over: the saturation that AtP* corrects by
computing attention anew (Kramár et al., 2024, section 3.1.1). Here the whole layer of the graft is computed anew, for
the rows from the grafted token on. With x the base's states after it, x' the grafted ones and G the gradient there,

    estimate = sum over rows of < G , x' - x >

so that only what later layers make of the change is linear. It costs 2 rows of about L that the graft itself costs.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from services.grafting.engine import Architecture, Plan, Reference, Weights
from services.grafting.engine.blocks import Block, Group
from services.grafting.runs import ROWS


class OwnLayer(NamedTuple):
    """One graft: its layer, and its plan beside the base's pass."""

    layer: int
    plan: Plan


@torch.inference_mode()
def own_layer_estimates(
    sources: Sequence[Weights],
    architecture: Architecture,
    reference: Reference,
    residual: torch.Tensor,
    grafts: Sequence[OwnLayer],
    check: Callable[[], None],
) -> tuple[torch.Tensor, int]:
    """Estimate how grafts change the log-probability.

    Parameters
    ----------
    sources, architecture
        Base and donor.
    reference
        The base's pass.
    residual
        Gradients by the states after each layer, [repetitions, layers, tokens, hidden].
    grafts
        Each of one layer alone.
    check
        Called before each batch; may raise to stop.

    Returns
    -------
    estimates
        [repetitions, grafts], in nats.
    rows
        How many went through a layer.
    """
    estimates = torch.zeros(residual.shape[0], len(grafts), dtype=torch.float64)
    tables = architecture.rotary_tables(reference.tokens, reference.states[0])
    plans, outputs, count = [graft.plan for graft in grafts], reference.logits.shape[0], 0
    for layer, numbers in _batches(grafts):
        check()
        starts: dict[int, list[int]] = {}
        for number in numbers:
            starts.setdefault(plans[number].starts[layer], []).append(number)
        groups = []
        for start, members in starts.items():
            rows = reference.rows(layer, start, reference.tokens)
            groups.append(Group(reference, start, members, rows.expand(len(members), -1, -1)))
        most = outputs if layer == architecture.layers - 1 else reference.tokens
        count += Block(sources, architecture, layer, 0).run(groups, plans, tables, most, None)
        for group in groups:
            change = group.x - reference.rows(layer + 1, group.start, reference.tokens)
            found = torch.einsum("drh,mrh->dm", residual[:, layer, group.start :].double(), change.double())
            estimates[:, group.members] = found.to(estimates)
    return estimates, count


def _batches(grafts: Sequence[OwnLayer]) -> Iterator[tuple[int, list[int]]]:
    """Grafts of a layer that run together; those that change nothing are left out."""
    by_layer: dict[int, list[int]] = {}
    for number, (layer, plan) in enumerate(grafts):
        if plan.starts[layer] < plan.tokens:
            by_layer.setdefault(layer, []).append(number)
    for layer, numbers in sorted(by_layer.items()):
        batch, rows = [], 0
        for number in numbers:
            own = grafts[number].plan.tokens - grafts[number].plan.starts[layer]
            if batch and rows + own > ROWS:
                yield layer, batch
                batch, rows = [], 0
            batch.append(number)
            rows += own
        yield layer, batch
