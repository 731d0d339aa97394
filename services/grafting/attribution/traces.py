"""The base's own pass kept whole, and what the donor's weights would make of the same rows.

Passes of few rows are bound by reading the weights. So nothing is computed twice: what slopes need of the base is kept
when its pass is made, and the donor's own pass takes the base's rows along, so that each of its weights is read once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from services.grafting.attribution.options import Preview
from services.grafting.engine import Grafter, ModelWeights, Weights
from services.grafting.runs import Case, Passes

MOST_TOKENS = 64
"""Longest sequence whose pass is kept whole. It takes some 100 kB for each token of a layer with 4,096 dims; and in
longer ones products take so long that reading a weight once more hardly counts."""
OUTSIDE = -1
"""The layer of the components outside the layers."""
Place = tuple[int, str]
"""A layer and a component."""


@dataclass
class Trace:
    """Rows by layer and component; those of a component that is computed for the last positions alone are fewer.

    Parameters
    ----------
    read, made
        What the base's components read, [rows, inputs], and what they make of it, [rows, outputs].
    projected
        What the norms of single heads read.
    change
        What the donor's components make of the same rows, less what the base's make, [rows, outputs].
    """

    read: dict[Place, torch.Tensor] = field(default_factory=dict)
    made: dict[Place, torch.Tensor] = field(default_factory=dict)
    projected: dict[Place, torch.Tensor] = field(default_factory=dict)
    change: dict[Place, torch.Tensor] = field(default_factory=dict)


class _Keeping:
    """The base's weights, which note what they read and make: copies, for passes change rows in place."""

    def __init__(self, base: ModelWeights, trace: Trace) -> None:
        self._base, self._trace = base, trace

    def embed(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the base's embeddings."""
        made = self._base.embed(ids, positions)
        self._trace.made[OUTSIDE, "embedding"] = made.clone()
        return made

    def apply(self, layer: int, component: str, rows: torch.Tensor) -> torch.Tensor:
        """Apply a component of the base's."""
        if not self._base.has_head_norm(layer, component):
            return self._noted((layer, component), rows, self._base.apply(layer, component, rows))
        projected = self._base.projected(layer, component, rows)
        self._trace.projected[layer, component] = projected.clone()
        return self._noted((layer, component), rows, self._base.normed(layer, component, projected))

    def final_norm(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the base's last norm."""
        return self._noted((OUTSIDE, "final_norm"), rows, self._base.final_norm(rows))

    def head(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the base's output matrix."""
        return self._noted((OUTSIDE, "head"), rows, self._base.head(rows))

    def _noted(self, place: Place, rows: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        self._trace.read[place] = rows.clone()
        self._trace.made[place] = made.clone()
        return made


class _Comparing:
    """The donor's weights, which also act on the rows that the base's read."""

    def __init__(self, donor: Weights, trace: Trace) -> None:
        self._donor, self._trace = donor, trace

    def embed(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the donor's embeddings."""
        made = self._donor.embed(ids, positions)
        place = (OUTSIDE, "embedding")
        self._trace.change[place] = made - self._trace.made[place]
        return made

    def apply(self, layer: int, component: str, rows: torch.Tensor) -> torch.Tensor:
        """Apply a component of the donor's."""
        both = self._donor.apply(layer, component, self._with_others((layer, component), rows))
        return self._compared((layer, component), both, len(rows))

    def final_norm(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the donor's last norm."""
        place = (OUTSIDE, "final_norm")
        return self._compared(place, self._donor.final_norm(self._with_others(place, rows)), len(rows))

    def head(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the donor's output matrix."""
        place = (OUTSIDE, "head")
        return self._compared(place, self._donor.head(self._with_others(place, rows)), len(rows))

    def _with_others(self, place: Place, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat((rows, self._trace.read[place]))

    def _compared(self, place: Place, both: torch.Tensor, count: int) -> torch.Tensor:
        self._trace.change[place] = both[count:] - self._trace.made[place]
        return both[:count]


def passes_kept(grafter: Grafter, sources: Sequence[Weights], case: Case) -> Passes:
    """Make both models' own passes over a case, and keep a :class:`Trace` of the base's.

    Parameters
    ----------
    grafter
        Whose rows are counted.
    sources
        Its base, which is a model's plain weights, and its donor.
    case
        Prompt and target.
    """
    base, donor = sources[:2]
    assert isinstance(base, ModelWeights)
    trace = Trace()
    own = Grafter((_Keeping(base, trace), _Comparing(donor, trace)), grafter.architecture, grafter.device)
    references = [own.reference(case.ids, source, len(case.target)) for source in (0, 1)]
    grafter.row_layers += own.row_layers + len(case.ids) * grafter.architecture.layers  # the donor's, twice
    return Passes(references, trace)


def passes_to_preview(
    grafter: Grafter, sources: Sequence[Weights], case: Case, options: Preview | None
) -> Passes | None:
    """Make both models' own passes so that slopes at the base cost little more; None where that is of no use.

    The same request gets the same kind of passes, whether an attempt still has to estimate or not: what the donor's
    weights make of few rows and of twice as many may differ in the last digits.
    """
    few = len(case.ids) <= MOST_TOKENS
    if options is None or options.steps or not few or not isinstance(sources[0], ModelWeights):
        return None
    return passes_kept(grafter, sources, case)
