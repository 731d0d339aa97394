"""What a block computes besides its weights: heads, rotary positions, windows, the order of its residuals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.lm.anatomy import blocks_of
from services.grafting.engine.quantised import METHODS, is_there, method_of

_LLAMA_LIKE = ("llama", "qwen2", "qwen3", "mistral", "gemma")
SUPPORTED = (*_LLAMA_LIKE, "gpt2", "gpt_neox")
"""Values of ``model_type`` that can be grafted."""
_GROWING_ROTARY = ("dynamic", "longrope")
"""Rotary tables that change with the length of the sequence, so that rows of a longer one could not be shared."""
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


@dataclass(frozen=True)
class Architecture:
    """How the weights of a model are used; two models of one architecture differ in weights alone.

    Parameters
    ----------
    name
        ``model_type`` of the config.
    layers, heads, kv_heads, head_dim
        Sizes. Each key head serves ``heads / kv_heads`` query heads.
    scales
        For each layer, what scores are multiplied with.
    windows
        For each layer, how many positions a token sees, its own included; None for all before it.
    parallel
        Whether attention and MLP read the same input (NeoX).
    has_gate
        Whether the MLP multiplies ``up`` with an activated ``gate``.
    activations
        For each layer, the function between ``up`` (or ``gate``) and ``down``.
    rotary
        transformers' module of the rotary tables; None where positions are learned.
    context
        Most tokens of a sequence.
    """

    name: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    scales: tuple[float, ...]
    windows: tuple[int | None, ...]
    parallel: bool
    has_gate: bool
    activations: tuple[Callable[[torch.Tensor], torch.Tensor], ...]
    rotary: nn.Module | None
    context: int

    def rotary_tables(self, tokens: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Cosines and sines, each [tokens, rotary dims] in the dtype and on the device of ``like``."""
        if self.rotary is None:
            return None
        cos, sin = self.rotary(like[:0], torch.arange(tokens, device=like.device)[None])
        return cos[0], sin[0]


def architecture_of(model: Any) -> Architecture:
    """Read the architecture of a transformers causal LM.

    Raises
    ------
    FailedPrecondition
        UNSUPPORTED_ARCH: the message names the architecture, or the option of it that is not supported.
    """
    config = model.config
    kind = str(config.model_type)
    refuse_by_config(config)
    blocks: Any = blocks_of(model)
    heads = int(config.num_attention_heads)
    if kind == "gpt2":
        attentions, activations = [b.attn for b in blocks], [b.mlp.act for b in blocks]
        rotary, head_dim, context = None, attentions[0].head_dim, config.n_positions
    elif kind == "gpt_neox":
        attentions, activations = [b.attention for b in blocks], [b.mlp.act for b in blocks]
        rotary, head_dim = model.gpt_neox.rotary_emb, attentions[0].head_size
        context = config.max_position_embeddings
    else:
        attentions, activations = [b.self_attn for b in blocks], [b.mlp.act_fn for b in blocks]
        rotary, head_dim = model.model.rotary_emb, attentions[0].head_dim
        context = config.max_position_embeddings
    return Architecture(
        name=kind,
        layers=len(blocks),
        heads=heads,
        kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_dim=int(head_dim),
        scales=tuple(float(a.scaling) for a in attentions),
        windows=tuple(_window(kind, config, a) for a in attentions),
        parallel=kind == "gpt_neox" and bool(config.use_parallel_residual),
        has_gate=has_gate(kind),
        activations=tuple(activations),
        rotary=rotary,
        context=int(context),
    )


def has_gate(kind: str) -> bool:
    """Whether the MLPs of an architecture have a ``gate``."""
    return kind in _LLAMA_LIKE


def refuse_by_config(config: Any) -> None:
    """Refuse a config that cannot be grafted, before its weights are loaded.

    Raises
    ------
    FailedPrecondition
        UNSUPPORTED_ARCH.
    """
    kind = str(config.model_type)
    if kind not in SUPPORTED:
        experts = any(getattr(config, name, None) for name in _EXPERTS)
        what = f"{kind}, a mixture of experts," if experts else kind
        raise _unsupported(kind, f"A model of type {what} cannot be grafted")
    _refuse_by_method(kind, method_of(config))
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in _GROWING_ROTARY:
        raise _unsupported(
            kind, f"Rotary positions of type {rope} depend on the length, and cannot be grafted"
        )
    for option in ("reorder_and_upcast_attn", "add_cross_attention"):
        if getattr(config, option, False):
            raise _unsupported(kind, f"A {kind} with {option} cannot be grafted")


def _refuse_by_method(kind: str, method: str) -> None:
    if method and method not in METHODS:
        raise _unsupported(
            kind,
            f"Weights quantised by {method} cannot be read by rows ({', '.join(METHODS)} can); register the model "
            "dequantised, or as GGUF, which is dequantised when it is registered",
        )
    if method and not is_there(method):
        raise _unsupported(
            kind,
            f"Weights quantised by {method} need the package {METHODS[method]}, which is not installed here",
        )


def _unsupported(kind: str, message: str) -> FailedPrecondition:
    return FailedPrecondition(
        Reason.UNSUPPORTED_ARCH,
        f"{message}; use one of {', '.join(SUPPORTED)}, with dense layers.",
        metadata={"model_type": kind},
    )


def _window(kind: str, config: Any, attention: Any) -> int | None:
    if kind == "mistral":
        return getattr(config, "sliding_window", None)
    return getattr(attention, "sliding_window", None)
