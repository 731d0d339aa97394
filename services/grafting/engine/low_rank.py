"""A donor that is a model with a LoRA adapter beside it: the base's products, and for its own rows the adapter's."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason, Violation
from palimpsest.lm.anatomy import anatomy_of
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

    def norm(self) -> float:
        """Frobenius norm of what is added, in float64, without making it: ``|UD|^2 = tr(D D^T U^T U)``."""
        down, up = self.down.double(), self.up.double()
        square = ((down @ down.T) * (up.T @ up)).sum()
        return abs(self.scale) * float(square.clamp(min=0)) ** 0.5


class AdapterTensors(NamedTuple):
    """One module's matrices in an adapter, [rank, inputs] and [outputs, rank], and the scale of their product."""

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

    Attributes
    ----------
    base, deltas
        As given.
    """

    def __init__(self, base: ModelWeights, deltas: Mapping[tuple[int, str], Delta]) -> None:
        self.base, self.deltas = base, dict(deltas)

    def embed(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the base's embeddings."""
        return self.base.embed(ids, positions)

    def apply(self, layer: int, component: str, rows: torch.Tensor) -> torch.Tensor:
        """Apply a component: twice the rank times the rows more than the base alone."""
        if (layer, component) not in self.deltas:
            return self.base.apply(layer, component, rows)
        return self.normed(layer, component, self.projected(layer, component, rows))

    def has_head_norm(self, layer: int, component: str) -> bool:
        """As of the base."""
        return self.base.has_head_norm(layer, component)

    def normed(self, layer: int, component: str, projected: torch.Tensor) -> torch.Tensor:
        """Apply the base's norm of single heads."""
        return self.base.normed(layer, component, projected)

    def projected(self, layer: int, component: str, rows: torch.Tensor) -> torch.Tensor:
        """Apply a matrix alone, with what the adapter adds."""
        projected = self.base.projected(layer, component, rows)
        delta = self.deltas.get((layer, component))
        if delta is None:
            return projected
        return torch.add(projected, linear(linear(rows, delta.down), delta.up), alpha=delta.scale)

    def final_norm(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the base's last norm."""
        return self.base.final_norm(rows)

    def head(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the base's output matrix."""
        return self.base.head(rows)


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


def deltas_of(
    matrices: Mapping[str, AdapterTensors], model: Any, name: str = "the base"
) -> dict[tuple[int, str], Delta]:
    """Read an adapter's matrices in the names of components.

    Parameters
    ----------
    matrices
        By the path of the module that each is for.
    model
        The base, or one of its architecture without weights.
    name
        What errors call it.

    Raises
    ------
    InvalidArgument
        COMPONENT_OUT_OF_RANGE: the adapter changes something that is no matrix of a layer.
    FailedPrecondition
        ARCH_MISMATCH: a matrix has another shape than the base's. NON_FINITE_WEIGHTS.
    """
    deltas: dict[tuple[int, str], Delta] = {}
    known, wrong = set(), []
    for number, parts in enumerate(anatomy_of(model).layers):
        for component, part in parts.items():
            if component.endswith("norm") or part.path not in matrices:
                continue
            known.add(part.path)
            own, found = matrices[part.path], sizes_of(part.module_of(model))
            if own.down.shape[0] != own.up.shape[1] or (own.up.shape[0], own.down.shape[1]) != found:
                theirs = tuple(own.up.shape), tuple(own.down.shape)
                wrong.append(
                    Violation(
                        part.path, f"{found} in the base and {theirs[0]} times {theirs[1]} in the adapter"
                    )
                )
                continue
            deltas[number, component] = Delta(own.down, part.select(own.up), own.scale)
    if unknown := sorted(matrices.keys() - known):
        raise _unusable(unknown[0])
    if wrong:
        raise FailedPrecondition(
            Reason.ARCH_MISMATCH,
            f"The adapter does not fit into {name}: {wrong[0].field} has {wrong[0].description}. Graft it into the "
            "model that it was trained on.",
            violations=wrong[:50],
        )
    broken = [path for path, own in matrices.items() if not all(bool(t.isfinite().all()) for t in own[:2])]
    if broken:
        raise FailedPrecondition(
            Reason.NON_FINITE_WEIGHTS,
            f"The adapter has weights that are not finite for {', '.join(sorted(broken)[:10])}. Every reading would be "
            "NaN: use another one.",
            metadata={"tensors": len(broken)},
        )
    return deltas


def sizes_of(module: Any) -> tuple[int, int]:
    """Return outputs and inputs of a linear layer, quantised or not, or of GPT-2's."""
    return (module.nf, module.nx) if hasattr(module, "nf") else (module.out_features, module.in_features)


def _unusable(path: str) -> InvalidArgument:
    return InvalidArgument(
        Reason.COMPONENT_OUT_OF_RANGE,
        f"The adapter changes {path} in a way that cannot be grafted by rows. Merge it into a model, and graft that.",
        metadata={"module": path},
    )
