"""All subsets of some segments of a prompt, grafted at once: what they have in common is computed once.

The state of a token depends on what is grafted at it and before it. Ordered by where they begin, segments therefore
make a tree: from the first token of segment i on there are 2^(i+1) different states of a token, until the next one
begins. All nodes go through the layers together; the path on which nothing is grafted is the base's own pass.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from services.grafting.attribution.layers import added
from services.grafting.engine import LAYER_COMPONENTS, Grafter, Reference, Weights
from services.grafting.engine.attention import attend, rotate
from services.grafting.readings import Reader, Reading

_SCORES = 1 << 22
"""Most scores of one head that are there at once."""
_HEAD_ROWS = 256


@dataclass(frozen=True)
class Level:
    """Nodes of one depth: every choice among the segments begun, but that of none.

    Parameters
    ----------
    first, stop
        Their tokens.
    offset
        Number of their first row; rows are numbered by node, then by token.
    masks
        By node, which of the segments begun are grafted, a bit each in the order in which they begin.
    """

    first: int
    stop: int
    offset: int
    masks: range


class Trie:
    """The tree of the subsets of segments of a sequence.

    Parameters
    ----------
    tokens
        Length of the sequence.
    segments
        Positions of each; no two have one in common, and none is empty.

    Attributes
    ----------
    levels
        From the first segment's first token on.
    rows
        Rows of all nodes, without those of the base's own pass.
    """

    def __init__(self, tokens: int, segments: Sequence[Sequence[int]]) -> None:
        self.tokens = tokens
        self._order = sorted(range(len(segments)), key=lambda n: min(segments[n]))
        starts = [min(segments[n]) for n in self._order]
        self._segment_at = torch.full((tokens,), -1)
        for rank, number in enumerate(self._order):
            self._segment_at[list(segments[number])] = rank
        self.levels: list[Level] = []
        self.rows = 0
        for depth, (first, stop) in enumerate(zip(starts, [*starts[1:], tokens], strict=True)):
            masks = range(1, 2 << depth)
            self.levels.append(Level(first, stop, self.rows, masks))
            self.rows += len(masks) * (stop - first)

    @property
    def positions(self) -> torch.Tensor:
        """Token of each row, [rows]."""
        return torch.cat([torch.arange(v.first, v.stop).repeat(len(v.masks)) for v in self.levels])

    def grafted_rows(self) -> torch.Tensor:
        """Whether each row is grafted, [rows]."""
        return torch.cat([self.grafted(v.masks, range(v.first, v.stop)).flatten() for v in self.levels])

    def grafted(self, masks: Iterable[int], positions: range) -> torch.Tensor:
        """Whether tokens are grafted in subsets given by their masks, [masks, positions]."""
        at = self._segment_at[positions.start : positions.stop]
        bits = torch.tensor(list(masks))[:, None] >> at.clamp(min=0)
        return (bits & 1).bool() & (at >= 0)

    def path(self, mask: int, first: int, stop: int) -> torch.Tensor:
        """Where the rows of a subset are: numbers below ``tokens`` are the base's, others a row's plus ``tokens``."""
        found = torch.arange(stop)
        for depth, level in enumerate(self.levels):
            chosen = mask & ((2 << depth) - 1)
            if chosen and level.first < stop:
                begin = self.tokens + level.offset + (chosen - 1) * (level.stop - level.first)
                end = min(stop, level.stop)
                found[level.first : end] = torch.arange(begin, begin + end - level.first)
        return found[first:]

    def mask_of(self, subset: int) -> int:
        """Turn a subset, a bit for each segment as they were given, into one by the order in which they begin."""
        return sum((subset >> number & 1) << rank for rank, number in enumerate(self._order))


def first_layer(components: Collection[str], layers: range, count: int) -> int:
    """Return the first of ``count`` layers that rows of subsets go through; ``count`` itself: only what comes after."""
    if "embedding" in components:
        return 0
    return layers.start if any(each in LAYER_COMPONENTS for each in components) else count


class SubsetPass:
    """Grafts of all subsets of some segments, beside the base's own pass.

    Parameters
    ----------
    grafter
        Whose rows are counted.
    sources
        Base and donor.
    reference
        The base's pass.
    trie
        Of the sequence.
    layers, components
        What is grafted.
    """

    def __init__(
        self,
        grafter: Grafter,
        sources: Sequence[Weights],
        reference: Reference,
        trie: Trie,
        layers: range,
        components: Sequence[str],
    ) -> None:
        self._grafter, self._architecture = grafter, grafter.architecture
        self._base, self._donor = sources
        self._reference, self._trie = reference, trie
        self._layers, self._components = layers, frozenset(components)
        device = grafter.device
        self._positions = trie.positions.to(device)
        on = trie.grafted_rows().to(device)
        self._on, self._off = on.nonzero()[:, 0], (~on).nonzero()[:, 0]

    @torch.inference_mode()
    def read(self, reader: Reader, outputs: int, check: Callable[[], None]) -> list[Reading]:
        """Run, and read every subset but the empty one: by its number, a bit for each segment as they were given."""
        x = self._states(check)
        pool = torch.cat((self._reference.rows(self._architecture.layers, self._trie.tokens - outputs,
                                               self._trie.tokens), x))  # fmt: skip
        count = 1 << len(self._trie.levels)
        numbers = list(range(1, count))
        found: list[Reading] = []
        per = max(1, _HEAD_ROWS // outputs)
        for begin in range(0, len(numbers), per):
            check()
            for logits in self._logits(
                pool, [self._trie.mask_of(n) for n in numbers[begin : begin + per]], outputs
            ):
                found.append(reader.read(logits))
        return found

    def _states(self, check: Callable[[], None]) -> torch.Tensor:
        """Run all nodes through the layers: [rows, hidden]."""
        count = self._architecture.layers
        start = first_layer(self._components, self._layers, count)
        if start == count:  # only what follows the layers is grafted
            tail = self._reference.states[-1]
            return tail[(self._positions - self._trie.tokens + tail.shape[0]).clamp(min=0)]
        x = self._reference.states[start][self._positions]
        if "embedding" in self._components:
            ids = self._reference.ids[self._positions[self._on]]
            x[self._on] = self._donor.embed(ids, self._positions[self._on])
        tables = self._architecture.rotary_tables(self._trie.tokens, x)
        for layer in range(start, count):
            check()
            x = x + added(self._architecture, layer, self._apply(layer), self._attend(layer, tables), x)
            self._grafter.row_layers += self._trie.rows
        return x

    def _apply(self, layer: int) -> Callable[[str, torch.Tensor], torch.Tensor]:
        def apply(name: str, x: torch.Tensor) -> torch.Tensor:
            grafted = layer in self._layers and name in self._components
            return self._split(
                x, self._on, self._off, grafted, lambda own, rows: own.apply(layer, name, rows)
            )

        return apply

    def _split(
        self,
        x: torch.Tensor,
        on: torch.Tensor,
        off: torch.Tensor,
        grafted: bool,
        work: Callable[[Weights, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Do something to rows, each with the weights that act there."""
        if not grafted or not len(on):
            return work(self._base, x)
        if not len(off):
            return work(self._donor, x)
        other = work(self._donor, x[on])
        y = other.new_empty((len(x), other.shape[-1]))
        y[on], y[off] = other, work(self._base, x[off])
        return y

    def _attend(
        self, layer: int, tables: tuple[torch.Tensor, torch.Tensor] | None
    ) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
        def mix(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            if tables is not None:
                cos, sin = (table[self._positions] for table in tables)
                q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            keys = torch.cat((self._reference.keys[layer], k))
            values = torch.cat((self._reference.values[layer], v))
            made = []
            for level, masks, rows in self._chunks():
                seen = torch.stack([self._trie.path(mask, 0, level.stop) for mask in masks]).to(keys.device)
                own = q[rows].unflatten(0, (len(masks), -1))
                mixed = attend(own, keys[seen], values[seen], None, self._architecture, layer)
                made.append(mixed.flatten(0, 1))
            return torch.cat(made)

        return mix

    def _chunks(self) -> Iterator[tuple[Level, range, slice]]:
        """Nodes that attend together, with their rows, in order."""
        for level in self._trie.levels:
            length = level.stop - level.first
            per = max(1, _SCORES // (length * level.stop))
            for begin in range(0, len(level.masks), per):
                masks = level.masks[begin : begin + per]
                first = level.offset + begin * length
                yield level, masks, slice(first, first + len(masks) * length)

    def _logits(self, pool: torch.Tensor, masks: Sequence[int], outputs: int) -> torch.Tensor:
        """Logits of the last positions of some subsets: [subsets, outputs, vocabulary], float32."""
        trie, first = self._trie, self._trie.tokens - outputs
        at = torch.stack([trie.path(mask, first, trie.tokens) for mask in masks]).flatten() - first
        x = pool[at.to(pool.device)]
        on = trie.grafted(masks, range(first, trie.tokens)).flatten().to(pool.device)
        parts = on.nonzero()[:, 0], (~on).nonzero()[:, 0]
        h = self._split(x, *parts, "final_norm" in self._components, lambda own, rows: own.final_norm(rows))
        logits = self._split(h, *parts, "head" in self._components, lambda own, rows: own.head(rows).float())
        return logits.unflatten(0, (len(masks), outputs))
