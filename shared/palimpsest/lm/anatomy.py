"""The parts of a causal LM by one set of names, whatever its architecture calls them.

::

    embedding -> [ attention_norm -> q k v -> attention -> o,
                   mlp_norm -> gate up -> down ] x layers -> final_norm -> head

Training, grafting and unlearning select weights by these names, hooks are set on ``part.module_of(model)``, and
:func:`last_mlp` is where retrieval queries are read. Fused projections (GPT-2, NeoX, BLOOM, Phi-3) are taken apart:
``q`` is the rows of ``q`` alone. A part that an architecture lacks (``gate`` in GPT-2) is not in the layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from palimpsest.errors import FailedPrecondition, Reason

PARTS = ("attention_norm", "q", "k", "v", "o", "mlp_norm", "gate", "up", "down")
"""Parts of a layer, in the order a token meets them."""

_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_MLP = ("mlp", "feed_forward", "ffn")
_EXPERTS = ("block_sparse_moe", "moe", "experts")
_QKV = ("qkv_proj", "c_attn", "query_key_value")
_IN_ATTENTION = {
    "q": ("q_proj",),
    "k": ("k_proj",),
    "v": ("v_proj",),
    "o": ("o_proj", "out_proj", "c_proj", "dense"),
}
_IN_MLP = {
    "gate": ("gate_proj",),
    "up": ("up_proj", "c_fc", "fc1", "dense_h_to_4h"),
    "down": ("down_proj", "c_proj", "fc2", "dense_4h_to_h"),
}
_ATTENTION_NORM = ("input_layernorm", "ln_1", "self_attn_layer_norm")
_MLP_NORM = ("pre_feedforward_layernorm", "post_attention_layernorm", "ln_2", "final_layer_norm")


@dataclass(frozen=True)
class Part:
    """One matrix or norm of a model, perhaps some rows of a fused one.

    Parameters
    ----------
    path
        Dotted name of the module that holds it.
    share
        Which outputs of the module are the part's, as (first, stop); None for all.
    heads
        Where a fused module keeps its outputs head by head (NeoX, BLOOM): the number of heads, and ``share`` counts the
        outputs of one head.
    transposed
        Whether the module keeps its weight as [inputs, outputs] (GPT-2's Conv1D).
    """

    path: str
    share: tuple[int, int] | None = None
    heads: int = 1
    transposed: bool = False

    def module_of(self, model: nn.Module) -> nn.Module:
        """Return the module that holds the part."""
        return model.get_submodule(self.path)

    def weight(self, model: nn.Module) -> torch.Tensor:
        """Return the weight: [outputs, inputs] for a matrix, [outputs] for a norm; a copy where interleaved."""
        return self.select(self._stored(model, "weight"))

    def bias(self, model: nn.Module) -> torch.Tensor | None:
        """Return the bias, [outputs], or None."""
        stored = getattr(self.module_of(model), "bias", None)
        return None if stored is None else self.select(stored.data)

    @torch.no_grad()
    def write(self, model: nn.Module, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        """Overwrite the weight, and the bias if one is given, in the shapes of :meth:`weight` and :meth:`bias`."""
        self._rows(self._stored(model, "weight")).copy_(self._by_head(weight))
        if bias is not None:
            self._rows(self._stored(model, "bias")).copy_(self._by_head(bias))

    def _stored(self, model: nn.Module, name: str) -> torch.Tensor:
        data = getattr(self.module_of(model), name).data
        return data.T if self.transposed and data.ndim == 2 else data  # [outputs, inputs]

    def _rows(self, stored: torch.Tensor) -> torch.Tensor:
        """View of the part's rows: [outputs, ...], or [heads, outputs of a head, ...]."""
        if self.share is None:
            return stored
        first, stop = self.share
        if self.heads == 1:
            return stored[first:stop]
        return stored.unflatten(0, (self.heads, -1))[:, first:stop]  # [heads, head_dim, inputs]

    def select(self, stored: torch.Tensor) -> torch.Tensor:
        """Return the part's rows of anything that has a row for each output of the module: [outputs, ...]."""
        rows = self._rows(stored)
        return rows.flatten(0, 1) if self.share is not None and self.heads > 1 else rows

    def _by_head(self, value: torch.Tensor) -> torch.Tensor:
        return value.unflatten(0, (self.heads, -1)) if self.share is not None and self.heads > 1 else value


@dataclass(frozen=True)
class Anatomy:
    """Where the parts of one model are.

    Parameters
    ----------
    layers
        For each layer, its parts by the names of :data:`PARTS`.
    embedding, final_norm, head
        The parts outside the layers; ``final_norm`` is None where there is none.
    tied
        Whether embedding and head are the same parameter.
    """

    layers: tuple[Mapping[str, Part], ...]
    embedding: Part
    final_norm: Part | None
    head: Part
    tied: bool


def anatomy_of(model: Any) -> Anatomy:
    """Find the parts of a transformers causal LM by its structure.

    Raises
    ------
    FailedPrecondition
        MODEL_INVALID: a mixture of experts, or blocks whose parts have names this module does not know; the message
        names what was not found.
    """
    paths = {id(module): path for path, module in model.named_modules()}
    blocks = blocks_of(model)
    at = paths[id(blocks)]
    config = model.config.get_text_config()
    layers = tuple(_layer(block, f"{at}.{number}", config) for number, block in enumerate(blocks))
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    return Anatomy(
        layers=layers,
        embedding=Part(paths[id(embedding)]),
        final_norm=_final_norm(model, at, paths),
        head=Part(paths[id(head)]),
        tied=embedding.weight is head.weight,
    )


def blocks_of(model: Any) -> nn.ModuleList:
    """Return the list of a model's blocks: the one list of modules as long as the model has layers, with MLPs in them.

    Raises
    ------
    FailedPrecondition
        MODEL_INVALID: there is no such list, or more than one.
    """
    count = model.config.get_text_config().num_hidden_layers
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    found = [m for m in lists if _child(m[-1], (*_ATTENTION, *_MLP, *_EXPERTS)) is not None]
    if len(found) != 1:
        raise _unknown(model, f"a list of {count} blocks")
    return found[0]


def last_mlp(model: Any) -> nn.Module:
    """Return the MLP of the last block; its input, after the norm, is what retrieval keys and queries are.

    Raises
    ------
    FailedPrecondition
        KEY_SITE_UNKNOWN: no such module was found.
    """
    names = (*_MLP, *_EXPERTS)
    try:
        found = _child(blocks_of(model)[-1], names)
    except FailedPrecondition:
        found = None
    if found is None:
        raise FailedPrecondition(
            Reason.KEY_SITE_UNKNOWN,
            f"Nothing can be quoted with a {type(model).__name__}: the MLP of its last block was not found. Use a "
            f"model whose blocks have a part named {', '.join(sorted(names))}.",
        )
    return found


def _layer(block: nn.Module, path: str, config: Any) -> dict[str, Part]:
    experts = _name(block, _EXPERTS) or _name(getattr(block, "mlp", block), _EXPERTS)
    if experts:
        raise _unknown(block, f"a dense MLP: {experts} is a mixture of experts, which is not supported")
    parts: dict[str, Part] = {}
    attention = _required(block, _ATTENTION)
    module = getattr(block, attention)
    fused = _name(module, _QKV)
    if fused:
        parts |= _split_qkv(getattr(module, fused), f"{path}.{attention}.{fused}", fused, config)
    for part, names in _IN_ATTENTION.items():
        if part not in parts:
            name = _required(module, names)
            parts[part] = _part(getattr(module, name), f"{path}.{attention}.{name}")
    mlp = _name(block, _MLP)  # OPT keeps its two matrices in the block itself
    module, inside = (getattr(block, mlp), f"{path}.{mlp}") if mlp else (block, path)
    if hasattr(module, "gate_up_proj"):
        half = int(cast(nn.Linear, module.gate_up_proj).weight.shape[0]) // 2
        parts["gate"] = Part(f"{inside}.gate_up_proj", (0, half))
        parts["up"] = Part(f"{inside}.gate_up_proj", (half, 2 * half))
    for part, names in _IN_MLP.items():
        name = None if part in parts else _name(module, names)
        if name:
            parts[part] = _part(getattr(module, name), f"{inside}.{name}")
        elif part not in parts and part != "gate":
            raise _unknown(module, " or ".join(names))
    for part, names in (("attention_norm", _ATTENTION_NORM), ("mlp_norm", _MLP_NORM)):
        name = _name(block, names)
        if name:
            parts[part] = Part(f"{path}.{name}")
    return {name: parts[name] for name in PARTS if name in parts}


def _split_qkv(module: nn.Module, path: str, name: str, config: Any) -> dict[str, Part]:
    """Take a fused projection apart: q, k and v one after another, or head by head (NeoX, BLOOM)."""
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    if name == "query_key_value":
        if getattr(module, "out_features", 0) != 3 * heads * size:
            raise _unknown(module, "query_key_value with as many key heads as query heads")
        return {part: Part(path, (n * size, (n + 1) * size), heads) for n, part in enumerate("qkv")}
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    ends = (0, heads * size, (heads + kv_heads) * size, (heads + 2 * kv_heads) * size)
    transposed = not isinstance(module, nn.Linear)
    return {p: Part(path, (ends[n], ends[n + 1]), transposed=transposed) for n, p in enumerate("qkv")}


def _part(module: nn.Module, path: str) -> Part:
    return Part(path, transposed=type(module).__name__ == "Conv1D")


def _final_norm(model: nn.Module, blocks: str, paths: Mapping[int, str]) -> Part | None:
    """Return the norm beside the list of blocks, the last one that is there."""
    parent = blocks.rpartition(".")[0]
    body = model.get_submodule(parent) if parent else model
    found = [m for _, m in body.named_children() if "norm" in type(m).__name__.lower()]
    return Part(paths[id(found[-1])]) if found else None


def _name(module: nn.Module, names: tuple[str, ...]) -> str | None:
    children = dict(module.named_children())
    return next((name for name in names if name in children), None)


def _child(module: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    name = _name(module, names)
    return None if name is None else getattr(module, name)


def _required(module: nn.Module, names: tuple[str, ...]) -> str:
    name = _name(module, names)
    if name is None:
        raise _unknown(module, " or ".join(names))
    return name


def _unknown(module: nn.Module, what: str) -> FailedPrecondition:
    return FailedPrecondition(
        Reason.MODEL_INVALID, f"The parts of this model are not known: {type(module).__name__} lacks {what}."
    )
