"""Which model each row's weights come from, and what of it has to be computed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from palimpsest.lm.anatomy import PARTS

LAYER_COMPONENTS = PARTS
"""Components of a layer: both norms and the seven matrices, each with its bias. ``q`` and ``k`` include the norms of
single heads where there are some (Qwen 3)."""
OUTER_COMPONENTS = ("embedding", "final_norm", "head")
"""Components outside the layers. Learned positions (GPT-2) belong to ``embedding``. Embedding and head are two
components even where they are one matrix."""
COMPONENTS = (*LAYER_COMPONENTS, *OUTER_COMPONENTS)

_INDEX = {name: at for at, name in enumerate(LAYER_COMPONENTS)}
_OUTER = {name: at for at, name in enumerate(OUTER_COMPONENTS)}
_SEEN_LATER = tuple(_INDEX[name] for name in ("attention_norm", "k", "v"))
"""What later positions of the same layer see."""


class Patch(NamedTuple):
    """One rectangle of a configuration.

    Attributes
    ----------
    positions
        Tokens, from 0.
    layers
        Layers, from 0; components outside the layers do not look at them.
    components
        Of ``COMPONENTS``.
    source
        The model whose weights act there, by its number.
    """

    positions: Sequence[int]
    layers: Sequence[int]
    components: Iterable[str]
    source: int = 1


class Configuration(NamedTuple):
    """A source for every position, layer and component: ``base``, but for the patches; where two overlap the later
    one counts.
    """

    patches: tuple[Patch, ...] = ()
    base: int = 0

    def dense(self, tokens: int, layers: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
        """Return the sources in the layers, [tokens, layers, components], and outside, [tokens, 3]."""
        body = np.full((tokens, layers, len(LAYER_COMPONENTS)), self.base, np.int8)
        outer = np.full((tokens, len(OUTER_COMPONENTS)), self.base, np.int8)
        for patch in self.patches:
            names = tuple(patch.components)
            inside = [_INDEX[name] for name in names if name in _INDEX]
            if inside and len(patch.layers) and len(patch.positions):
                body[np.ix_(np.asarray(patch.positions), np.asarray(patch.layers), np.asarray(inside))] = (
                    patch.source
                )
            for name in names:
                if name in _OUTER and len(patch.positions):
                    outer[np.asarray(patch.positions), _OUTER[name]] = patch.source
        return body, outer

    def at(self, position: int) -> "Configuration":
        """What is said of one position, as a configuration of a sequence of one token."""
        return self._replace(
            patches=tuple(p._replace(positions=(0,)) for p in self.patches if position in p.positions)
        )


Cells = dict[str, list[tuple[int, npt.NDArray[np.intp]]]]
"""By component, sources other than the reference's, each with the positions that have it."""


@dataclass(frozen=True)
class Plan:
    """What one configuration computes, given a pass of the reference.

    The state of a token in a layer depends on sources at the same or earlier positions in the same or earlier layers
    alone. All else is the reference's.

    Parameters
    ----------
    tokens
        Length of the sequence.
    starts
        For each layer, and last for what follows them, the first position whose state differs; ``tokens`` for none.
    cells
        For each layer, and last for the components outside, what differs from the reference.
    """

    tokens: int
    starts: tuple[int, ...]
    cells: tuple[Cells, ...] = field(repr=False)

    @property
    def row_layers(self) -> int:
        """Rows that pass through a layer, over all layers."""
        return sum(self.tokens - start for start in self.starts[:-1])

    @property
    def rows(self) -> int:
        """Rows that pass through the last layer: the most of any."""
        return self.tokens - self.starts[-1]

    def after(self, others: int) -> "Plan":
        """The same plan where ``others`` tokens come before."""
        cells = [
            {name: [(source, rows + others) for source, rows in there] for name, there in each.items()}
            for each in self.cells
        ]
        return Plan(self.tokens + others, tuple(start + others for start in self.starts), tuple(cells))


def plan(
    configuration: Configuration,
    reference: int,
    tokens: int,
    layers: int,
    outputs: int,
    *,
    share: bool = True,
) -> Plan:
    """Find what a configuration has to compute beside a pass of the model ``reference``.

    Parameters
    ----------
    configuration
        Of a sequence of ``tokens`` tokens.
    reference
        The model whose pass is there already.
    tokens, layers
        Sizes.
    outputs
        How many last positions are read. What could only change others is left out.
    share
        Use the reference's states; otherwise every row is computed, and no reference is needed.
    """
    body, outer = configuration.dense(tokens, layers)
    differs, outside = _differences(body, outer, reference, outputs)
    cells: list[Cells] = [{} for _ in range(layers)]
    for n in np.flatnonzero(differs.any(axis=(0, 2))):  # a cell of a sweep has few layers
        cells[int(n)] = _cells(body[:, n], differs[:, n], LAYER_COMPONENTS)
    cells.append(_cells(outer, outside, OUTER_COMPONENTS))
    starts = _starts(differs, outside) if share else (0,) * (layers + 1)
    return Plan(tokens, starts, tuple(cells))


def row_layers(configuration: Configuration, reference: int, tokens: int, layers: int, outputs: int) -> int:
    """Return :attr:`Plan.row_layers` of a plan that is not made."""
    differences = _differences(*configuration.dense(tokens, layers), reference, outputs)
    return sum(tokens - start for start in _starts(*differences)[:-1])


def _differences(
    body: npt.NDArray[np.int8], outer: npt.NDArray[np.int8], reference: int, outputs: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Where sources are not the reference and the outputs can tell."""
    differs, outside = body != reference, outer != reference
    first = len(body) - outputs
    unseen = [at for at in range(len(LAYER_COMPONENTS)) if at not in _SEEN_LATER]
    differs[:first, -1, unseen] = False
    outside[:first, 1:] = False
    return differs, outside


def _starts(differs: npt.NDArray[np.bool_], outside: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    """As :attr:`Plan.starts`."""
    touched = np.logical_or.reduce(differs, axis=2)  # [tokens, layers]
    firsts = np.minimum(_earliest(touched), _earliest(outside[:, :1]))
    starts: list[int] = np.minimum.accumulate(firsts).tolist()
    return (*starts, min(starts[-1], int(_earliest(outside).min())))


def _earliest(differs: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """For each column the first row that is set, or how many rows there are."""
    return np.where(differs.any(axis=0), differs.argmax(axis=0), len(differs))


def _cells(sources: npt.NDArray[np.int8], differs: npt.NDArray[np.bool_], names: Sequence[str]) -> Cells:
    found: Cells = {}
    for at in np.flatnonzero(differs.any(axis=0)):
        rows = np.flatnonzero(differs[:, at])
        there = sources[rows, at]
        if (there == there[0]).all():
            found[names[int(at)]] = [(int(there[0]), rows)]
            continue
        found[names[int(at)]] = [(int(source), rows[there == source]) for source in np.unique(there)]
    return found
