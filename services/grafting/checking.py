"""How far two models are apart: by layer and component, and after each token of a prompt."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm.anatomy import Part
from services.grafting.engine import Configuration, LowRankWeights, ModelWeights
from services.grafting.pairs import Pair

MOST_TOKENS = 512
"""Tokens of a prompt whose predictions are compared: the logits of all are held at once."""
_ROWS = 64
_CHUNK = 1 << 12


class Change(NamedTuple):
    """How a component of the donor differs; ``layer`` is -1 outside the layers."""

    layer: int
    component: str
    delta_norm: float
    relative_norm: float


def changes_of(pair: Pair) -> Iterator[Change]:
    """Yield the components that differ, in the order in which a token meets them; norms are in float64."""
    ours, others = pair.weights
    if isinstance(others, LowRankWeights):
        yield from _added(ours, others)
        return
    assert isinstance(others, ModelWeights)
    base, donor = ours.anatomy, others.anatomy
    yield from _change(ours, others, -1, "embedding", base.embedding, donor.embedding)
    for layer, (mine, theirs) in enumerate(zip(base.layers, donor.layers, strict=True)):
        for name, part in mine.items():
            yield from _change(ours, others, layer, name, part, theirs[name])
    if base.final_norm is not None and donor.final_norm is not None:
        yield from _change(ours, others, -1, "final_norm", base.final_norm, donor.final_norm)
    yield from _change(ours, others, -1, "head", base.head, donor.head)


def _added(base: ModelWeights, donor: LowRankWeights) -> Iterator[Change]:
    """What an adapter adds, from its two matrices alone."""
    for layer, parts in enumerate(base.anatomy.layers):
        for name, part in parts.items():
            if (layer, name) in donor.deltas and (norm := donor.deltas[layer, name].norm()):
                whole = _squares(part.weight(base.model), part.bias(base.model)) ** 0.5
                yield Change(layer, name, norm, norm / whole if whole else float("inf"))


def _squares(*tensors: torch.Tensor | None) -> float:
    """Sum of squares in float64, by rows: float64 is large."""
    parts = (part for each in tensors if each is not None for part in each.split(_CHUNK))
    return sum(float(part.double().square().sum()) for part in parts)


def _change(
    ours: ModelWeights, others: ModelWeights, layer: int, name: str, base: Part, donor: Part
) -> Iterator[Change]:
    squares = whole = 0.0
    mine = [base.weight(ours.model), base.bias(ours.model)]
    theirs = [donor.weight(others.model), donor.bias(others.model)]
    for a, b in zip(mine, theirs, strict=True):
        if a is None or b is None:
            continue
        whole += _squares(a)
        for own, other in zip(a.split(_CHUNK), b.split(_CHUNK), strict=True):
            squares += float((other.double() - own.double()).square().sum())
    if squares:
        yield Change(layer, name, squares**0.5, (squares / whole) ** 0.5 if whole else float("inf"))


def divergences(pair: Pair, ids: tuple[int, ...]) -> list[float]:
    """Kullback-Leibler divergence of the base's prediction from the donor's after each token, in nats.

    Raises
    ------
    InvalidArgument
        PROMPT_TOO_LONG.
    """
    limit = min(MOST_TOKENS, pair.facts.context)
    if len(ids) > limit:
        raise InvalidArgument.field(
            Reason.PROMPT_TOO_LONG,
            "prompt",
            f"The prompt has {len(ids)} tokens, and predictions are compared after at most {limit}. Shorten it.",
            prompt_tokens=len(ids),
            context_length=limit,
        )
    base, donor = (pair.grafter.forward(ids, Configuration(base=source)) for source in (0, 1))
    found: list[float] = []
    for a, b in zip(base.split(_ROWS), donor.split(_ROWS), strict=True):
        ours, theirs = torch.log_softmax(a.double(), -1), torch.log_softmax(b.double(), -1)
        terms = theirs.exp() * (theirs - ours)
        found += terms.nan_to_num(0.0).sum(-1).clamp(min=0.0).tolist()
    return found
