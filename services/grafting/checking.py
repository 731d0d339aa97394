"""How far two models are apart: by layer and component, and after each token of a prompt."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm.anatomy import Part
from services.grafting.engine import Configuration
from services.grafting.pairs import Pair

MOST_TOKENS = 512
"""Tokens of a prompt whose predictions are compared: the logits of all are held at once."""
_ROWS = 64


class Change(NamedTuple):
    """How a component of the donor differs; ``layer`` is -1 outside the layers."""

    layer: int
    component: str
    delta_norm: float
    relative_norm: float


def changes_of(pair: Pair) -> Iterator[Change]:
    """Yield the components that differ, in the order in which a token meets them; norms are in float64."""
    base, donor = (weights.anatomy for weights in pair.weights)
    yield from _change(pair, -1, "embedding", base.embedding, donor.embedding)
    for layer, (mine, theirs) in enumerate(zip(base.layers, donor.layers, strict=True)):
        for name, part in mine.items():
            yield from _change(pair, layer, name, part, theirs[name])
    if base.final_norm is not None and donor.final_norm is not None:
        yield from _change(pair, -1, "final_norm", base.final_norm, donor.final_norm)
    yield from _change(pair, -1, "head", base.head, donor.head)


def _change(pair: Pair, layer: int, name: str, base: Part, donor: Part) -> Iterator[Change]:
    squares = whole = 0.0
    mine, theirs = (
        [part.weight(model), part.bias(model)]
        for part, model in zip((base, donor), (w.model for w in pair.weights), strict=True)
    )
    for ours, others in zip(mine, theirs, strict=True):
        if ours is None or others is None:
            continue
        for a, b in zip(ours.split(1 << 12), others.split(1 << 12), strict=True):  # by rows: float64 is large
            squares += float((b.double() - a.double()).square().sum())
            whole += float(a.double().square().sum())
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
