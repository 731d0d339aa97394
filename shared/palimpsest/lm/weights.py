"""Weights of llama-shaped models, fused: one matrix for q, k and v, one for gate and up.

The fused matrices are the only copy. The transformers module keeps working: its parameters become views into
them, so loading costs the model once, plus one layer while it is being fused.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_STATIC_ROPE = {"default", "llama3", "linear", "yarn"}


@dataclass
class LayerWeights:
    """One layer; matrices are [outputs, inputs] in the model's dtype, vectors float32."""

    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    o: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    norm_1: torch.Tensor
    norm_2: torch.Tensor
    norm_q: torch.Tensor | None
    norm_k: torch.Tensor | None


@dataclass
class LlamaWeights:
    """A llama-shaped model: RMSNorm, rotary attention with grouped keys, SwiGLU, all layers alike."""

    layers: list[LayerWeights]
    embedding: torch.Tensor
    head: torch.Tensor
    final_norm: torch.Tensor
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    inner: int
    vocab: int
    eps: float
    scale: float
    rotary: nn.Module

    @property
    def matrices(self) -> list[torch.Tensor]:
        """Every matrix one token is multiplied with, in order."""
        each = [m for layer in self.layers for m in (layer.qkv, layer.o, layer.gate_up, layer.down)]
        return [*each, self.head]

    def rope_tables(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the model's own rotary embedding, each [length, head_dim], float32."""
        device = self.embedding.device
        with torch.no_grad():
            cos, sin = self.rotary(
                torch.empty(1, dtype=torch.float32, device=device), torch.arange(length, device=device)[None]
            )
        return cos[0].contiguous(), sin[0].contiguous()


def is_llama_shaped(module: Any) -> bool:
    """Whether a transformers module has exactly the structure that :func:`fuse` understands.

    Structure alone cannot show every difference (a scaled embedding, say); the loader compares outputs too.
    """
    config, inner = module.config, getattr(module, "model", None)
    parts = {"embed_tokens", "layers", "norm", "rotary_emb"}
    if inner is None or {name for name, _ in inner.named_children()} != parts:
        return False
    if {name for name, _ in module.named_children()} != {
        "model",
        "lm_head",
    } or module.lm_head.bias is not None:
        return False
    if getattr(config, "hidden_act", "") != "silu" or not _attends_to_all(config):
        return False
    if getattr(inner.rotary_emb, "rope_type", "default") not in _STATIC_ROPE:
        return False
    if 2 * inner.rotary_emb.inv_freq.numel() != getattr(inner.layers[0].self_attn, "head_dim", 0):
        return False
    return all(_is_llama_layer(layer) for layer in inner.layers)


def _attends_to_all(config: object) -> bool:
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return set(kinds) == {"full_attention"}
    return getattr(config, "sliding_window", None) is None or not getattr(config, "use_sliding_window", True)


def _is_llama_layer(layer: Any) -> bool:
    if {name for name, _ in layer.named_children()} != _LAYER:
        return False
    attention, mlp = layer.self_attn, layer.mlp
    names = {name for name, _ in attention.named_children()} - {"rotary_emb"}
    if names not in (_ATTENTION, _ATTENTION | {"q_norm", "k_norm"}):
        return False
    if {name for name, _ in mlp.named_children()} - {"act_fn"} != {"gate_proj", "up_proj", "down_proj"}:
        return False
    plain = [attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    biased = {p.bias is not None for p in (attention.q_proj, attention.k_proj, attention.v_proj)}
    if (
        any(type(p) is not nn.Linear for p in plain)
        or any(p.bias is not None for p in plain)
        or len(biased) > 1
    ):
        return False
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    norms += [attention.q_norm, attention.k_norm] if "q_norm" in names else []
    return all(type(n).__name__.endswith("RMSNorm") and hasattr(n, "variance_epsilon") for n in norms)


def _join(parts: list[nn.Linear]) -> torch.Tensor:
    """Stack the weights of linear maps in one matrix and make their parameters views into it."""
    joined = torch.cat([p.weight.data for p in parts])
    start = 0
    for part in parts:
        rows = part.weight.shape[0]
        part.weight.data = joined[start : start + rows]
        start += rows
    return joined


@torch.no_grad()
def fuse(module: Any) -> LlamaWeights:
    """Fuse the matrices of a llama-shaped module in place, and collect them."""
    inner, config = module.model, module.config
    layers = []
    for layer in inner.layers:
        attention, mlp = layer.self_attn, layer.mlp
        qkv = [attention.q_proj, attention.k_proj, attention.v_proj]
        bias = None
        if attention.q_proj.bias is not None:
            bias = torch.cat([p.bias.data for p in qkv]).float()
        norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        layers.append(
            LayerWeights(
                qkv=_join(qkv),
                qkv_bias=bias,
                o=attention.o_proj.weight.data.contiguous(),
                gate_up=_join([mlp.gate_proj, mlp.up_proj]),
                down=mlp.down_proj.weight.data.contiguous(),
                norm_1=layer.input_layernorm.weight.data.float(),
                norm_2=layer.post_attention_layernorm.weight.data.float(),
                norm_q=None if norms[0] is None else norms[0].weight.data.float(),
                norm_k=None if norms[1] is None else norms[1].weight.data.float(),
            )
        )
    attention = inner.layers[0].self_attn
    head_dim = attention.head_dim
    return LlamaWeights(
        layers=layers,
        embedding=inner.embed_tokens.weight.data,
        head=module.lm_head.weight.data,
        final_norm=inner.norm.weight.data.float(),
        heads=attention.q_proj.weight.shape[0] // head_dim,
        kv_heads=attention.k_proj.weight.shape[0] // head_dim,
        head_dim=head_dim,
        hidden=config.hidden_size,
        inner=inner.layers[0].mlp.gate_proj.weight.shape[0],
        vocab=module.lm_head.weight.shape[0],
        eps=inner.norm.variance_epsilon,
        scale=attention.scaling,
        rotary=inner.rotary_emb,
    )
