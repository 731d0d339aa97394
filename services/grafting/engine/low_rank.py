"""A donor that is a model with a LoRA adapter beside it: the base's products, and for its own rows the adapter's."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from palimpsest.errors import InvalidArgument, Reason
from services.grafting.engine.products import linear
from services.grafting.engine.weights import ModelWeights


class Delta(NamedTuple):
    """What an adapter adds to a matrix: ``scale * up @ down``.

    Attributes
    ----------
    down
        [rank, inputs].
    up
        [outputs, rank].
    scale
        alpha / rank, or as the adapter has it.
    """

    down: torch.Tensor
    up: torch.Tensor
    scale: float


class LowRankWeights:
    """A model's weights with low-rank deltas, which are never added to them.

    Parameters
    ----------
    base
        The weights that the adapter was trained on.
    deltas
        By layer and component; components without one are the base's.
    """

    def __init__(self, base: ModelWeights, deltas: Mapping[tuple[int, str], Delta]) -> None:
        self._base, self._deltas = base, dict(deltas)

    def embed(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the base's embeddings."""
        return self._base.embed(ids, positions)

    def apply(self, layer: int, component: str, rows: torch.Tensor) -> torch.Tensor:
        """Apply a component: twice the rank times the rows more than the base alone."""
        delta = self._deltas.get((layer, component))
        if delta is None:
            return self._base.apply(layer, component, rows)
        added = linear(linear(rows, delta.down), delta.up)
        whole = torch.add(self._base.projected(layer, component, rows), added, alpha=delta.scale)
        return self._base.normed(layer, component, whole)

    def final_norm(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the base's last norm."""
        return self._base.final_norm(rows)

    def head(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the base's output matrix."""
        return self._base.head(rows)


def low_rank_deltas(
    base: ModelWeights, adapted: Any, adapter: str = "default"
) -> dict[tuple[int, str], Delta]:
    """Read the deltas of a peft model around the base, in the names of components.

    Parameters
    ----------
    base
        Weights of the model that peft has wrapped, or of an equal one.
    adapted
        The ``PeftModel``, not merged.
    adapter
        The adapter's name.

    Raises
    ------
    InvalidArgument
        COMPONENT_OUT_OF_RANGE: the adapter changes something that is no matrix of a layer, or not by a plain product
        of two matrices (DoRA, say).
    """
    inner = adapted.get_base_model()
    kinds = ("lora_A", "lora_embedding_A")
    layers = {p: m for p, m in inner.named_modules() if any(adapter in getattr(m, k, ()) for k in kinds)}
    deltas: dict[tuple[int, str], Delta] = {}
    known = set()
    for number, parts in enumerate(base.anatomy.layers):
        for name, part in parts.items():
            module = layers.get(part.path)
            if module is None or getattr(module, "use_dora", {}).get(adapter):
                continue
            known.add(part.path)
            up = part.select(module.lora_B[adapter].weight.data)
            deltas[number, name] = Delta(
                module.lora_A[adapter].weight.data, up, float(module.scaling[adapter])
            )
    if unknown := sorted(layers.keys() - known):
        raise _unusable(unknown[0])
    return deltas


def _unusable(path: str) -> InvalidArgument:
    return InvalidArgument(
        Reason.COMPONENT_OUT_OF_RANGE,
        f"The adapter changes {path} in a way that cannot be grafted by rows. Merge it into a model, and graft that.",
        metadata={"module": path},
    )
