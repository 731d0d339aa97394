"""The weights of one model, applied to rows by component."""

from typing import Any, Protocol

import torch
from torch import nn

from palimpsest.lm.anatomy import Anatomy, Part, anatomy_of
from services.grafting.engine.architecture import Architecture
from services.grafting.engine.products import linear
from services.grafting.engine.quantised import is_quantised, matrix_of, part_of


class Weights(Protocol):
    """What acts on rows: a model, or a model with something added."""

    def embed(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the input of the first layer, [rows, hidden], of token ids at positions, both [rows]."""
        ...

    def apply(self, layer: int, component: str, rows: torch.Tensor) -> torch.Tensor:
        """Return what a component of a layer makes of rows: [rows, inputs] to [rows, outputs]."""
        ...

    def final_norm(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows after the last norm, [rows, hidden]."""
        ...

    def head(self, rows: torch.Tensor) -> torch.Tensor:
        """Return logits, [rows, vocabulary]."""
        ...


class Projections(Weights, Protocol):
    """Weights whose products can be mixed with another model's: a model, or one with an adapter beside it."""

    def has_head_norm(self, layer: int, component: str) -> bool:
        """Whether the rows of a projection are normed head by head."""
        ...

    def normed(self, layer: int, component: str, projected: torch.Tensor) -> torch.Tensor:
        """Apply the norm of single heads to what a projection gave; most models have none."""
        ...

    def projected(self, layer: int, component: str, rows: torch.Tensor) -> torch.Tensor:
        """Apply a matrix alone."""
        ...


class ModelWeights:
    """Weights of a transformers module. They are read, and the module stays as it is.

    Matrices are views of the module's own, but for those that it keeps interleaved (NeoX), which are copied once, and
    for quantised ones, which are dequantised each time that rows go through them.

    Parameters
    ----------
    model
        A causal LM in evaluation mode, of the architecture.
    architecture
        Where heads end, for the norms of single heads.

    Attributes
    ----------
    anatomy
        Where the components are in the module.
    """

    def __init__(self, model: Any, architecture: Architecture) -> None:
        self.model, self._head_dim = model, architecture.head_dim
        self.anatomy: Anatomy = anatomy_of(model)
        body = model.base_model
        self._embedding = model.get_input_embeddings()
        self._positions: nn.Module | None = getattr(body, "wpe", None)
        self._matrices: dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor | None]] = {}
        self._quantised: dict[tuple[int, str], Part] = {}
        self._norms: dict[tuple[int, str], nn.Module] = {}
        self._head_norms: dict[tuple[int, str], nn.Module] = {}
        for number, parts in enumerate(self.anatomy.layers):
            for name, part in parts.items():
                if name.endswith("norm"):
                    self._norms[number, name] = part.module_of(model)
                elif is_quantised(part.module_of(model)):
                    self._quantised[number, name] = part
                else:
                    self._matrices[number, name] = (part.weight(model), part.bias(model))
                if name in ("q", "k") and (norm := _head_norm(model, part, name)) is not None:
                    self._head_norms[number, name] = norm
        assert self.anatomy.final_norm is not None  # every supported architecture has one
        self._final_norm = self.anatomy.final_norm.module_of(model)
        self._head = model.get_output_embeddings()

    def embed(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return embeddings, with learned positions added where there are some."""
        embedded = self._embedding(ids)
        return embedded if self._positions is None else embedded + self._positions(positions)

    def has(self, component: str) -> bool:
        """Whether the layers have such a component."""
        return component in self.anatomy.layers[0]

    def apply(self, layer: int, component: str, rows: torch.Tensor) -> torch.Tensor:
        """Apply a norm or a matrix, and after ``q`` and ``k`` the norm of each head where there is one."""
        norm = self._norms.get((layer, component))
        if norm is not None:
            return norm(rows)
        return self.normed(layer, component, self.projected(layer, component, rows))

    def has_head_norm(self, layer: int, component: str) -> bool:
        """Whether the rows of a projection are normed head by head."""
        return (layer, component) in self._head_norms

    def normed(self, layer: int, component: str, projected: torch.Tensor) -> torch.Tensor:
        """Apply the norm of single heads to what a projection gave; most models have none."""
        norm = self._head_norms.get((layer, component))
        if norm is None:
            return projected
        return norm(projected.unflatten(-1, (-1, self._head_dim))).flatten(-2)

    def projected(self, layer: int, component: str, rows: torch.Tensor) -> torch.Tensor:
        """Apply a matrix alone."""
        part = self._quantised.get((layer, component))
        if part is None:
            return linear(rows, *self._matrices[layer, component])
        bias = part.bias(self.model)
        return linear(rows, part_of(self.model, part, rows.dtype), None if bias is None else bias.to(rows))

    def final_norm(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the last norm."""
        return self._final_norm(rows)

    def head(self, rows: torch.Tensor) -> torch.Tensor:
        """Apply the output matrix."""
        weight = matrix_of(self._head, rows.dtype) if is_quantised(self._head) else self._head.weight
        return linear(rows, weight, self._head.bias)


def _head_norm(model: nn.Module, part: Part, name: str) -> nn.Module | None:
    attention = model.get_submodule(part.path.rpartition(".")[0])
    return getattr(attention, f"{name}_norm", None)
