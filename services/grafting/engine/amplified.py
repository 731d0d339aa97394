"""Weights between two models, or beyond one of them: what each makes of a row, mixed."""

import torch

from services.grafting.engine.weights import Projections


class AmplifiedWeights:
    """Weights ``base + weight * (donor - base)``, which are never made.

    Every component is linear in its weights, so its rows are mixed instead: two products for one. At 0 they are exactly
    the base's, and at 1 exactly the donor's.

    Parameters
    ----------
    base, donor
        Two models of one architecture; the donor may be the base with an adapter.
    weight
        How much of the change acts: more than 1 amplifies it, less than 0 turns it round.
    """

    def __init__(self, base: Projections, donor: Projections, weight: float) -> None:
        self._base, self._donor, self._weight = base, donor, weight

    def embed(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return mixed embeddings, with learned positions where there are some."""
        return self._mixed(self._base.embed(ids, positions), self._donor.embed(ids, positions))

    def apply(self, layer: int, component: str, rows: torch.Tensor) -> torch.Tensor:
        """Apply a component; norms of single heads act on the mixed projection."""
        if component.endswith("norm"):
            return self._mixed(*(w.apply(layer, component, rows) for w in (self._base, self._donor)))
        both = self._mixed(*(w.projected(layer, component, rows) for w in (self._base, self._donor)))
        if not self._base.has_head_norm(layer, component):
            return both
        return self._mixed(*(w.normed(layer, component, both) for w in (self._base, self._donor)))

    def final_norm(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the last norm."""
        return self._mixed(self._base.final_norm(rows), self._donor.final_norm(rows))

    def head(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the output matrix."""
        return self._mixed(self._base.head(rows), self._donor.head(rows))

    def _mixed(self, base: torch.Tensor, donor: torch.Tensor) -> torch.Tensor:
        return torch.lerp(base, donor, self._weight)
