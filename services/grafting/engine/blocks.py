"""One layer over the rows of many configurations, each row with the weights of its own source."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from services.grafting.engine.architecture import Architecture
from services.grafting.engine.attention import Prefix, attend, rotate
from services.grafting.engine.configurations import Cells, Plan
from services.grafting.engine.weights import Weights

_OVERWRITTEN = 8
"""Where fewer than one row in so many has another source, all rows take the common one's product and the few are
overwritten: gathering the others would cost more than the products that are thrown away."""

Tables = tuple[torch.Tensor, torch.Tensor] | None
"""Cosines and sines of all positions, each [tokens, rotary dims]."""


@dataclass
class Reference:
    """A pass of one model over a prompt, kept for configurations that share most of it.

    Parameters
    ----------
    ids
        [tokens].
    states
        The input of each layer, [tokens, hidden], and last the output of the last one, [outputs, hidden].
    keys, values
        Of each layer, [tokens, kv_heads, head_dim], rotated.
    logits
        Of the last positions, [outputs, vocabulary], float32.
    """

    ids: torch.Tensor
    states: list[torch.Tensor] = field(default_factory=list)
    keys: list[torch.Tensor] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)
    logits: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def tokens(self) -> int:
        """Length of the prompt."""
        return self.ids.shape[0]

    def rows(self, layer: int, first: int, stop: int) -> torch.Tensor:
        """States of some positions: [stop - first, hidden]."""
        left = self.tokens - self.states[layer].shape[0]
        return self.states[layer][first - left : stop - left]


@dataclass
class Group:
    """Configurations of one prompt that compute the positions from ``start`` on.

    ``members`` are their numbers, ``x`` their states, [configurations, rows, hidden].
    """

    reference: Reference
    start: int
    members: list[int]
    x: torch.Tensor


class _Span(NamedTuple):
    """Where the rows of a group are among all: ``rows`` for each of its configurations, the last ones of the prompt."""

    group: Group
    offset: int
    rows: int

    @property
    def start(self) -> int:
        return self.group.reference.tokens - self.rows


def _spans(groups: Sequence[Group], most: int) -> list[_Span]:
    spans, offset = [], 0
    for group in groups:
        spans.append(_Span(group, offset, min(most, group.x.shape[1])))
        offset += spans[-1].rows * len(group.members)
    return spans


class Block:
    """One layer of all sources.

    Parameters
    ----------
    sources
        The models.
    architecture
        Of all of them.
    layer
        Its number.
    common
        The source that rows have unless a plan says otherwise.
    """

    def __init__(
        self, sources: Sequence[Weights], architecture: Architecture, layer: int, common: int
    ) -> None:
        self._sources, self._architecture = sources, architecture
        self._layer, self._common = layer, common
        self._grafted: list[
            tuple[int, int, Cells]
        ] = []  # group, member, and what its plan says of this layer

    def run(
        self,
        groups: Sequence[Group],
        plans: Sequence[Plan],
        tables: Tables,
        most: int,
        keep: Reference | None,
    ) -> int:
        """Replace the groups' states by those after the layer.

        Parameters
        ----------
        groups
            All configurations; together they have at least one row.
        plans
            By the numbers of the groups' members.
        tables
            Rotary tables; None where positions are learned.
        most
            How many last positions of each configuration are wanted.
        keep
            Takes input, keys and values of a run that has one configuration alone.

        Returns
        -------
        int
            Rows that were computed.
        """
        self._grafted = [
            (number, at, cells)
            for number, group in enumerate(groups)
            for at, member in enumerate(group.members)
            if (cells := plans[member].cells[self._layer])
        ]
        whole = _spans(groups, max(group.reference.tokens for group in groups))
        asked = _spans(groups, most)
        x = torch.cat([group.x.flatten(0, 1) for group in groups])  # [rows, hidden]
        h = self._apply("attention_norm", x, whole)
        k = self._heads(self._apply("k", h, whole))
        v = self._heads(self._apply("v", h, whole))
        if tables is not None:
            k = rotate(k, *self._angles(tables, whole))
        if keep is not None:
            keep.states.append(x)
            keep.keys.append(k)
            keep.values.append(v)
        count = x.shape[0]
        if any(some.rows < all_.rows for some, all_ in zip(asked, whole, strict=True)):
            taken = self._last_rows(whole, asked, x.device)
            x, h = x[taken], h[taken]
        q = self._heads(self._apply("q", h, asked))
        if tables is not None:
            q = rotate(q, *self._angles(tables, asked))
        mixed = self._attention(q, k, v, whole, asked)
        after = self._apply("o", mixed, asked)
        if self._architecture.parallel:
            x = self._mlp(x, asked).add_(after).add_(x)
        else:
            x = after.add_(x)  # in place: no other tensor holds what a product has just made
            x = x.add_(self._mlp(x, asked))
        for span in asked:
            rows = len(span.group.members) * span.rows
            span.group.x = x[span.offset : span.offset + rows].unflatten(0, (-1, span.rows))
            span.group.start = span.start
        return count

    def _mlp(self, x: torch.Tensor, spans: Sequence[_Span]) -> torch.Tensor:
        h = self._apply("mlp_norm", x, spans)
        act = self._architecture.activations[self._layer]
        if self._architecture.has_gate:
            inner = act(self._apply("gate", h, spans)).mul_(self._apply("up", h, spans))
        else:
            inner = act(self._apply("up", h, spans))
        return self._apply("down", inner, spans)

    def _apply(self, component: str, x: torch.Tensor, spans: Sequence[_Span]) -> torch.Tensor:
        """Apply a component: each row with the weights of its source, one product for each source."""
        others = self._others(component, spans)
        common = self._sources[self._common]
        if not others:
            return common.apply(self._layer, component, x)
        parts = {source: torch.tensor(rows, device=x.device) for source, rows in others.items()}
        count = sum(map(len, others.values()))
        if count * _OVERWRITTEN < len(x):
            y = common.apply(self._layer, component, x)
            for source, rows in parts.items():
                y[rows] = self._sources[source].apply(self._layer, component, x[rows])
            return y
        if count < len(x):
            mine = torch.ones(len(x), dtype=torch.bool, device=x.device)
            for rows in parts.values():
                mine[rows] = False
            parts[self._common] = mine.nonzero()[:, 0]
        made = [(rows, self._sources[s].apply(self._layer, component, x[rows])) for s, rows in parts.items()]
        y = x.new_empty((len(x), made[0][1].shape[-1]))
        for rows, values in made:
            y[rows] = values
        return y

    def _others(self, component: str, spans: Sequence[_Span]) -> dict[int, list[int]]:
        """Numbers of the rows whose source is not the common one, by source."""
        found: dict[int, list[int]] = {}
        for number, at, cells in self._grafted:
            span = spans[number]
            first, start = span.offset + at * span.rows - span.start, span.start
            for source, positions in cells.get(component, ()):
                found.setdefault(source, []).extend(first + p for p in positions.tolist() if p >= start)
        return {source: rows for source, rows in found.items() if rows}

    def _attention(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        whole: Sequence[_Span],
        asked: Sequence[_Span],
    ) -> torch.Tensor:
        mixed = []
        for own, some in zip(whole, asked, strict=True):
            many, group = len(own.group.members), own.group
            keys, values = (
                t[own.offset : own.offset + many * own.rows].unflatten(0, (many, -1)) for t in (k, v)
            )
            queries = q[some.offset : some.offset + many * some.rows].unflatten(0, (many, -1))
            prefix = None
            if own.start:
                reference = group.reference
                prefix = Prefix(
                    reference.keys[self._layer][: own.start], reference.values[self._layer][: own.start]
                )
            mixed.append(attend(queries, keys, values, prefix, self._architecture, self._layer).flatten(0, 1))
        return torch.cat(mixed)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (-1, self._architecture.head_dim))

    def _angles(
        self, tables: tuple[torch.Tensor, torch.Tensor], spans: Sequence[_Span]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        at = torch.cat(
            [torch.arange(s.start, s.start + s.rows).repeat(len(s.group.members)) for s in spans]
        ).to(tables[0].device)
        return tables[0][at], tables[1][at]

    def _last_rows(
        self, whole: Sequence[_Span], asked: Sequence[_Span], device: torch.device
    ) -> torch.Tensor:
        taken = []
        for own, some in zip(whole, asked, strict=True):
            ends = own.offset + own.rows * torch.arange(1, len(own.group.members) + 1)
            taken.append((ends[:, None] + torch.arange(-some.rows, 0)).flatten())
        return torch.cat(taken).to(device)
