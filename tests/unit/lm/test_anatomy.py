"""The parts of a model by one set of names: found by structure, read, written, and doing what their names say."""

import pytest
import torch
import transformers

from palimpsest.errors import FailedPrecondition
from palimpsest.lm.anatomy import PARTS, anatomy_of, last_mlp

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
GATED = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
MODELS = {
    "llama": transformers.LlamaConfig(**GATED),
    "mistral": transformers.MistralConfig(**GATED),
    "qwen2": transformers.Qwen2Config(**{k: v for k, v in GATED.items() if k != "head_dim"}),
    "qwen3": transformers.Qwen3Config(**GATED),
    "gemma": transformers.GemmaConfig(**GATED),
    "gemma2": transformers.Gemma2Config(**GATED),
    "phi3": transformers.Phi3Config(**{k: v for k, v in GATED.items() if k != "head_dim"}, pad_token_id=0),
    "gpt2": transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64),
    "neox": transformers.GPTNeoXConfig(**SMALL, intermediate_size=48),
    "bloom": transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=64),
    "opt": transformers.OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32),
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(5)
    config = MODELS[request.param]
    config._attn_implementation = "eager"
    found = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # fresh biases are zero, and would hide a wrong one
        for parameter in found.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return found


def attentions(model, layer: int = 0) -> torch.Tensor:
    """Attention probabilities of one layer: [heads, tokens, tokens]."""
    return model(torch.arange(3, 11)[None], output_attentions=True).attentions[layer][0]


def test_every_layer_has_its_parts(model):
    anatomy = anatomy_of(model)
    assert len(anatomy.layers) == 2
    expected = set(PARTS) - (set() if "gate" in anatomy.layers[0] else {"gate"})
    assert all(set(layer) == expected for layer in anatomy.layers)
    assert ("gate" in anatomy.layers[0]) == (
        model.config.model_type not in ("gpt2", "gpt_neox", "bloom", "opt")
    )
    assert anatomy.final_norm is not None
    assert anatomy.embedding.weight(model).shape == anatomy.head.weight(model).shape == (64, 32)
    assert anatomy.tied == bool(model.config.tie_word_embeddings)
    for layer in anatomy.layers:
        assert layer["q"].weight(model).shape[1] == layer["k"].weight(model).shape[1] == 32
        assert layer["k"].weight(model).shape == layer["v"].weight(model).shape
        assert layer["o"].weight(model).shape[0] == layer["down"].weight(model).shape[0] == 32
        assert layer["up"].weight(model).shape == layer["down"].weight(model).T.shape


@torch.no_grad()
def test_q_and_k_decide_where_attention_goes_and_v_does_not(model):
    layer, before = anatomy_of(model).layers[0], attentions(model)

    def cleared(name: str) -> torch.Tensor:
        part = layer[name]
        weight, bias = part.weight(model).clone(), part.bias(model)
        bias = None if bias is None else bias.clone()
        part.write(model, torch.zeros_like(weight), None if bias is None else torch.zeros_like(bias))
        after = attentions(model)
        assert not part.weight(model).any()
        part.write(model, weight, bias)
        return after

    torch.testing.assert_close(cleared("v"), before)
    rows = torch.arange(1, 9)
    if model.config.model_type != "bloom":  # whose distances count without any query
        for name in ("q", "k"):
            even = torch.tril(torch.ones(8, 8)) / rows[:, None]
            torch.testing.assert_close(cleared(name), even.expand_as(before))
    else:
        torch.testing.assert_close(cleared("q"), cleared("k"))
    torch.testing.assert_close(attentions(model), before)


@torch.no_grad()
def test_each_head_keeps_its_own_rows(model):
    """Writing one head's rows of q moves that head's attention and no other's."""
    part = anatomy_of(model).layers[0]["q"]
    before, weight = attentions(model), part.weight(model).clone()
    size = weight.shape[0] // before.shape[0]
    changed = weight.clone()
    changed[2 * size : 3 * size] += torch.randn(size, 32)
    part.write(model, changed)
    after = attentions(model)
    moved = (after - before).abs().amax(dim=(1, 2)) > 1e-6
    assert moved.tolist() == [False, False, True, False]


@torch.no_grad()
def test_the_mlp_is_what_its_parts_say(model):
    """down(act(gate) * up), or down(act(up)): clearing any of them clears the MLP's output, up to its bias."""
    layer = anatomy_of(model).layers[0]
    for name in ("gate", "up", "down"):
        if name in layer:
            part = layer[name]
            weight, bias = part.weight(model).clone(), part.bias(model)
            part.write(model, torch.zeros_like(weight), None if bias is None else torch.zeros_like(bias))
            module, seen = layer["down"].module_of(model), []
            hook = module.register_forward_hook(lambda _, inputs, output, seen=seen: seen.append(output))
            model(torch.arange(3, 11)[None])
            hook.remove()
            rest = layer["down"].bias(model)
            torch.testing.assert_close(
                seen[0].reshape(-1, 32), (torch.zeros(32) if rest is None else rest).expand(8, 32)
            )
            part.write(model, weight, bias)


def test_the_last_mlp_is_the_parent_of_its_matrices(model):
    path = anatomy_of(model).layers[-1]["down"].path.rpartition(".")[0]
    if model.config.model_type == "opt":  # its blocks hold the two matrices themselves
        with pytest.raises(FailedPrecondition, match="was not found"):
            last_mlp(model)
    else:
        assert last_mlp(model) is model.get_submodule(path)


def test_a_mixture_of_experts_is_refused_by_name():
    config = transformers.MixtralConfig(**GATED, num_local_experts=2)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with pytest.raises(FailedPrecondition, match="mixture of experts"):
        anatomy_of(model)
