"""Adapters: nothing at first, on all linear layers but the head, the same merged as beside, and gone afterwards."""

import sys

import pytest
import torch
import transformers
from peft import PeftModel

from palimpsest.errors import FailedPrecondition, InvalidArgument
from palimpsest.progress import NullProgress
from palimpsest.training import LoraSettings, Recipe, collate, token_nll, train
from palimpsest.training.adapters import attach, is_attached, merge, save_adapter
from palimpsest.training.cross_entropy import CrossEntropy

IDS = torch.arange(10)[None]
RECIPE = Recipe(steps=5, learning_rate=1e-2, batch=4, adapter=LoraSettings(rank=3, alpha=5.0))


def logits(module):
    with torch.no_grad():
        return module(IDS).logits


@pytest.fixture
def trained(make_model, examples):
    module = make_model()
    train(module, CrossEntropy(examples, RECIPE, 0), RECIPE, progress=NullProgress())
    return module


def test_a_new_adapter_changes_nothing_and_alone_is_trained(make_model):
    module = make_model()
    before = logits(module)
    attach(module, LoraSettings(rank=2), seed=1)
    assert torch.equal(logits(module), before)
    training = {
        name.rpartition(".lora_")[0].rpartition(".")[2]
        for name, p in module.named_parameters()
        if p.requires_grad
    }
    assert training == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert not module.training


def test_training_changes_the_adapter_alone(make_model, trained):
    base = dict(make_model().named_parameters())
    for name, parameter in trained.named_parameters():
        if "lora_" not in name:
            assert torch.equal(parameter, base[name.replace(".base_layer", "")]), name
    assert not torch.equal(logits(trained), logits(make_model()))


def test_a_merged_adapter_is_the_same_model_without_it(trained, make_model):
    expected = logits(trained)
    merge(trained)
    assert not is_attached(trained)
    torch.testing.assert_close(logits(trained), expected, rtol=1e-4, atol=1e-4)
    assert {n: p.shape for n, p in trained.named_parameters()} == {
        n: p.shape for n, p in make_model().named_parameters()
    }
    assert all(p.requires_grad for p in trained.parameters())
    assert trained.lm_head.weight.data_ptr() == trained.model.embed_tokens.weight.data_ptr(), "tied as before"
    assert torch.equal(trained.lm_head.weight, make_model().lm_head.weight)


def test_peft_reads_what_is_saved(trained, make_model, tmp_path):
    save_adapter(trained, tmp_path / "adapter", base="tiny")
    assert {file.name for file in (tmp_path / "adapter").iterdir()} >= {
        "adapter_model.safetensors",
        "adapter_config.json",
    }
    read = PeftModel.from_pretrained(make_model(), str(tmp_path / "adapter")).eval()
    torch.testing.assert_close(logits(read), logits(trained), rtol=1e-5, atol=1e-5)
    assert read.peft_config["default"].base_model_name_or_path == "tiny"
    assert read.peft_config["default"].lora_alpha == 5.0


def test_losses_in_chunks_go_through_the_adapter(trained, examples):
    batch = collate(examples, [10, 7], 0)
    labels = batch.ids.masked_fill(~batch.counted, -100)
    expected = trained(input_ids=batch.ids, attention_mask=batch.attention, labels=labels).loss
    total = batch.counted.sum()
    torch.testing.assert_close(
        token_nll(trained, batch, chunk=3).sum() / total, expected, rtol=1e-5, atol=1e-5
    )


def test_the_first_weights_follow_from_the_seed(make_model):
    made = []
    for seed in (1, 1, 2):
        module = make_model()
        attach(module, LoraSettings(), seed)
        made.append(module.model.layers[0].mlp.up_proj.lora_A["default"].weight)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_gpt2_stores_its_matrices_the_other_way_round(examples):
    torch.manual_seed(1)
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=48, n_positions=32)
    module = transformers.GPT2LMHeadModel(config).eval()
    train(module, CrossEntropy(examples, RECIPE, 0), RECIPE, progress=NullProgress())
    expected = logits(module)
    merge(module)
    torch.testing.assert_close(logits(module), expected, rtol=1e-4, atol=1e-4)


def test_chosen_layers(make_model):
    module = make_model()
    attach(module, LoraSettings(targets=("q_proj", "v_proj")), seed=0)
    assert {
        n.split(".lora_")[0].rpartition(".")[2] for n, p in module.named_parameters() if p.requires_grad
    } == {"q_proj", "v_proj"}


@pytest.mark.parametrize(
    "targets",
    [
        ("lm_head",),
        ("q_proj", "lm_head"),
        ("nowhere",),
        ("q_proj", "nowhere"),
        ("proj",),
        ("self_attn",),
        ("embed_tokens",),
        ("model.embed_tokens",),
    ],
)
def test_layers_that_take_no_adapter(make_model, targets):
    """The head and the embedding may be one matrix: an adapter on either, merged, would change both."""
    module = make_model()
    with pytest.raises(InvalidArgument) as caught:
        attach(module, LoraSettings(targets=targets), seed=0)
    assert caught.value.reason == "ADAPTER_INVALID"
    assert not is_attached(module)


def test_a_layer_can_be_named_by_more_of_its_path(make_model):
    module = make_model()
    attach(module, LoraSettings(targets=("1.self_attn.q_proj", "model.layers.0.mlp.up_proj")), seed=0)
    assert {n.split(".lora_")[0] for n, p in module.named_parameters() if p.requires_grad} == {
        "model.layers.1.self_attn.q_proj",
        "model.layers.0.mlp.up_proj",
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_adapter_of_a_half_precision_base_is_float32(make_model, examples, dtype):
    """A step of 1e-5 is lost beside a bfloat16 weight of .1, so nothing would be learned."""
    module = make_model(dtype)
    recipe = Recipe(steps=6, learning_rate=1e-6, batch=4, adapter=LoraSettings(rank=2))
    attach(module, recipe.adapter, seed=0)
    before = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}
    assert {p.dtype for p in before.values()} == {torch.float32}
    history = train(module, CrossEntropy(examples, recipe, 0), recipe, progress=NullProgress())
    assert not history.diverged
    moved = [n for n, p in module.named_parameters() if p.requires_grad and not torch.equal(p, before[n])]
    assert len(moved) == len(before)
    merge(module)
    assert {p.dtype for p in module.parameters()} == {dtype}


def test_one_adapter_at_a_time(trained, make_model):
    with pytest.raises(FailedPrecondition) as caught:
        attach(trained, LoraSettings(), seed=0)
    assert caught.value.reason == "ADAPTER_ATTACHED"
    for work in (merge, lambda module: save_adapter(module, None)):
        with pytest.raises(FailedPrecondition) as caught:
            work(make_model())
        assert caught.value.reason == "ADAPTER_MISSING"


def test_another_adapter_after_merging(trained):
    merge(trained)
    before = logits(trained)
    attach(trained, LoraSettings(rank=2), seed=4)
    assert torch.equal(logits(trained), before)


def test_without_peft(make_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(FailedPrecondition) as caught:
        attach(make_model(), LoraSettings(), seed=0)
    assert caught.value.reason == "ADAPTERS_NOT_INSTALLED"
