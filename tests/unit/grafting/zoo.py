"""A tiny random pair of models of every architecture, and what they are compared with: transformers' own passes."""

import copy
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from palimpsest.lm.anatomy import anatomy_of
from services.grafting.engine import Configuration, Grafter, ModelWeights, Patch, architecture_of
from services.grafting.engine.configurations import LAYER_COMPONENTS, OUTER_COMPONENTS

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 61,
         "max_position_embeddings": 64, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0,
         "initializer_range": 0.3}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 61, "n_positions": 64, "bos_token_id": None,
        "eos_token_id": 0, "initializer_range": 0.3}  # fmt: skip
NEOX = {
    **SIZES,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000, "partial_rotary_factor": 0.25},
}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **GROUPED, "tie_word_embeddings": True},
    "llama with biases, untied": {
        "model_type": "llama", **GROUPED, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False,
    },
    "qwen2": {"model_type": "qwen2", **GROUPED},
    "qwen2 with windows": {
        "model_type": "qwen2", **GROUPED, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1,
    },
    "qwen3": {"model_type": "qwen3", **GROUPED, "head_dim": 12},
    "mistral": {"model_type": "mistral", **GROUPED, "sliding_window": 4},
    "gemma": {"model_type": "gemma", **GROUPED, "head_dim": 16},
    "gpt2": {"model_type": "gpt2", **GPT2},
    "gpt2 scaled by layer": {"model_type": "gpt2", **GPT2, "scale_attn_by_inverse_layer_idx": True},
    "neox": {"model_type": "gpt_neox", **NEOX},
    "neox in sequence": {"model_type": "gpt_neox", **NEOX, "use_parallel_residual": False},
}  # fmt: skip

LAYERS = 3


@functools.cache
def make(name: str, seed: int, dtype: torch.dtype = torch.float32) -> Any:
    """A random model, kept and not to be changed; biases and norms are random too, so that grafting them is seen."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(**ARCHITECTURES[name])
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.to(dtype)


def near(model: Any, seed: int, size: float = 0.1) -> Any:
    """A fine-tuned copy, so to say: every weight moved a little, ties kept."""
    other = copy.deepcopy(model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return other


def grafter(*models: Any) -> Grafter:
    architecture = architecture_of(models[0])
    return Grafter([ModelWeights(m, architecture) for m in models], architecture)


def untied(model: Any) -> Any:
    """A copy whose head is a matrix of its own."""
    other = copy.deepcopy(model)
    head = other.get_output_embeddings()
    head.weight = torch.nn.Parameter(other.get_input_embeddings().weight.detach().clone())
    return other


@torch.no_grad()
def swapped(models: Sequence[Any], ids: Sequence[int], configuration: Configuration) -> torch.Tensor:
    """The definition: one token after another through one cache, with that token's weights written into a model."""
    body, outer = configuration.dense(len(ids), LAYERS)
    carrier = untied(models[0]) if anatomy_of(models[0]).tied else copy.deepcopy(models[0])
    anatomy, theirs = anatomy_of(carrier), [anatomy_of(m) for m in models]
    cache, logits = DynamicCache(config=carrier.config), []
    for at, token in enumerate(ids):
        for layer, parts in enumerate(anatomy.layers):
            for number, name in enumerate(LAYER_COMPONENTS):
                if name not in parts:
                    continue
                source = body[at, layer, number]
                part = theirs[source].layers[layer][name]
                parts[name].write(carrier, part.weight(models[source]), part.bias(models[source]))
                attention = part.path.rpartition(".")[0]
                if hasattr(carrier.get_submodule(attention), f"{name}_norm") and name in "qk":
                    _copy(carrier, models[source], f"{attention}.{name}_norm")
        for number, name in enumerate(OUTER_COMPONENTS):
            source = models[outer[at, number]]
            mine, other = getattr(anatomy, name), getattr(theirs[outer[at, number]], name)
            mine.write(carrier, other.weight(source), other.bias(source))
            if name == "embedding" and hasattr(carrier.base_model, "wpe"):
                _copy(carrier, source, f"{carrier.base_model_prefix}.wpe")
        step = carrier(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True)
        logits.append(step.logits[0, -1])
    return torch.stack(logits)


def _copy(to: Any, source: Any, path: str) -> None:
    to.get_submodule(path).weight.copy_(source.get_submodule(path).weight)


def own(model: Any, ids: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(ids)])).logits[0]


def drawn_ids(seed: int, tokens: int = 9) -> list[int]:
    return np.random.default_rng([seed, tokens]).integers(1, 61, tokens).tolist()


def drawn(seed: int, tokens: int, share: float = 0.5, sources: int = 2) -> Configuration:
    """A configuration in which every position, layer and component is drawn by itself."""
    draw = np.random.default_rng([7, seed])
    patches = []
    for position in range(tokens):
        for layer in range(LAYERS):
            for source in range(1, sources):
                names = [n for n in LAYER_COMPONENTS if draw.random() < share]
                patches.append(Patch((position,), (layer,), tuple(names), source))
        patches.append(Patch((position,), (), tuple(n for n in OUTER_COMPONENTS if draw.random() < share), 1))
    return Configuration(tuple(patches))


def everything(tokens: int, source: int = 1) -> Configuration:
    return Configuration(
        (Patch(range(tokens), range(LAYERS), (*LAYER_COMPONENTS, *OUTER_COMPONENTS), source),)
    )
