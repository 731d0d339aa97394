"""How far two models are apart: by layer and component, and after each token of a prompt."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm.anatomy import Part
from services.grafting.engine import Configuration, LowRankWeights, ModelWeights
from services.grafting.engine.quantised import is_quantised, part_of, rounded
from services.grafting.pairs import Pair

MOST_TOKENS = 512
"""Tokens of a prompt whose predictions are compared: the logits of all are held at once."""
_ROWS = 64
_CHUNK = 1 << 12


class Change(NamedTuple):
    """How a component of the donor differs; ``layer`` is -1 outside the layers.

    Attributes
    ----------
    delta_norm, relative_norm
        Frobenius norm of donor - base, and the same over the base's.
    quantisation_norm
        What rounding alone would change: the norm of the other model's matrix minus the same rounded as the quantised
        one's is. None unless one of the two is quantised here.
    """

    layer: int
    component: str
    delta_norm: float
    relative_norm: float
    quantisation_norm: float | None = None


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
                whole = _squares(*_tensors(base, part)) ** 0.5
                yield Change(layer, name, norm, norm / whole if whole else float("inf"))


def _squares(*tensors: torch.Tensor | None) -> float:
    """Sum of squares in float64, by rows: float64 is large."""
    parts = (part for each in tensors if each is not None for part in each.split(_CHUNK))
    return sum(float(part.double().square().sum()) for part in parts)


def _change(
    ours: ModelWeights, others: ModelWeights, layer: int, name: str, base: Part, donor: Part
) -> Iterator[Change]:
    squares = whole = 0.0
    for a, b in zip(_tensors(ours, base), _tensors(others, donor), strict=True):
        if a is None or b is None:
            continue
        whole += _squares(a)
        for own, other in zip(a.split(_CHUNK), b.split(_CHUNK), strict=True):
            squares += float((other.double() - own.double()).square().sum())
    if squares:
        relative = (squares / whole) ** 0.5 if whole else float("inf")
        yield Change(layer, name, squares**0.5, relative, _rounding(ours, others, base, donor))


def _tensors(weights: ModelWeights, part: Part) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias of a part, dequantised if need be."""
    return part_of(weights.model, part, torch.float32), part.bias(weights.model)


def _rounding(ours: ModelWeights, others: ModelWeights, base: Part, donor: Part) -> float | None:
    """Norm of what the quantised model's format loses of the other's matrix; None unless one of them is quantised."""
    sides = [(w.model, part.module_of(w.model), part) for w, part in ((ours, base), (others, donor))]
    quantised = [is_quantised(module) for _, module, _ in sides]
    if quantised[0] == quantised[1]:
        return None
    module = sides[quantised.index(True)][1]
    model, _, part = sides[quantised.index(False)]
    # Formats round the matrix of a whole module, of which a part may be some rows.
    whole = replace(part, share=None, heads=1).weight(model)
    return _squares(part.select(rounded(module, whole) - whole)) ** 0.5


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
