"""CheckPair's arithmetic, against a plain loop over two state dicts."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from palimpsest.errors import InvalidArgument
from palimpsest.models import compare
from palimpsest.models.pair import component_of
from palimpsest.models.weights import INDEX_FILE


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def change(folder, alter):
    weights = load_file(folder / "model.safetensors")
    alter(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_model_and_itself(tiny_model):
    report = compare(tiny_model, tiny_model)
    assert report.compatible
    assert report.tied
    assert report.same_tokenizer
    assert (report.differences, report.deltas, report.max_abs_diff) == ([], [], 0.0)
    assert report.tensors_compared == len(load_file(tiny_model / "model.safetensors"))


@pytest.mark.parametrize("sharded", [False, True])
def test_against_a_plain_loop(copy, tiny_model, sharded):
    donor = copy("donor")
    generator = torch.Generator().manual_seed(3)

    def alter(weights):
        for i, name in enumerate(sorted(weights)):
            if i % 3:
                weights[name] += torch.randn(weights[name].shape, generator=generator) * 10.0 ** -(i % 4)

    change(donor, alter)
    base, changed = load_file(tiny_model / "model.safetensors"), load_file(donor / "model.safetensors")
    expected = {}
    for name in base:
        delta = changed[name].double() - base[name].double()
        if delta.abs().max() > 0:
            norm = delta.norm().item()
            expected[name] = (norm, norm / base[name].double().norm().item(), delta.abs().max().item())
    if sharded:
        files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(changed)}
        for file in set(files.values()):
            save_file({name: changed[name] for name in changed if files[name] == file}, donor / file)
        (donor / "model.safetensors").unlink()
        (donor / INDEX_FILE).write_text(json.dumps({"weight_map": files}))

    report = compare(tiny_model, donor)
    assert report.compatible
    assert {delta.tensor for delta in report.deltas} == expected.keys()
    for delta in report.deltas:
        found = (delta.delta_norm, delta.relative_norm, delta.max_abs_diff)
        assert found == pytest.approx(expected[delta.tensor], rel=1e-12)
    relative = [delta.relative_norm for delta in report.deltas]
    assert relative == sorted(relative, reverse=True)
    assert report.max_abs_diff == max(worst for _, _, worst in expected.values())
    layers = {delta.tensor: delta.layer for delta in report.deltas}
    assert all(
        f"layers.{layer}." in name if layer >= 0 else "layers" not in name for name, layer in layers.items()
    )


def test_dtypes_may_differ(copy, tiny_model):
    donor = copy("donor")
    change(donor, lambda weights: weights.update({name: w.bfloat16() for name, w in weights.items()}))
    report = compare(tiny_model, donor)
    assert report.compatible
    assert any("BF16" in difference for difference in report.differences)
    base = load_file(tiny_model / "model.safetensors")
    worst = max((w.bfloat16().double() - w.double()).abs().max().item() for w in base.values())
    assert report.max_abs_diff == pytest.approx(worst)


def test_shapes(copy, tiny_model):
    donor = copy("donor")
    change(donor, lambda weights: weights.update({"model.norm.weight": torch.ones(63)}))
    report = compare(tiny_model, donor)
    assert not report.compatible
    assert any("[63]" in difference for difference in report.differences)


def test_missing_and_extra(copy, tiny_model):
    donor = copy("donor")
    change(donor, lambda weights: weights.update({"model.extra": weights.pop("model.norm.weight")}))
    report = compare(tiny_model, donor)
    assert not report.compatible
    assert any("model.extra" in d and "donor alone" in d for d in report.differences)
    assert any("model.norm.weight" in d and "base alone" in d for d in report.differences)


def test_tying(copy, tiny_model):
    donor = copy("donor")
    change(donor, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].clone()}))
    report = compare(tiny_model, donor)
    assert report.compatible, "a tied head that is stored all the same is only stored twice"
    assert report.tied
    edit(donor / "config.json", tie_word_embeddings=False)
    report = compare(tiny_model, donor)
    assert not report.compatible
    assert not report.tied


def test_config(copy, tiny_model):
    donor = copy("donor")
    edit(donor / "config.json", rms_norm_eps=0.5, transformers_version="0")
    report = compare(tiny_model, donor)
    assert report.compatible
    assert len(report.differences) == 1
    assert "rms_norm_eps" in report.differences[0]
    edit(donor / "config.json", model_type="mistral")
    assert not compare(tiny_model, donor).compatible


def test_tokenizers(copy, tiny_model):
    donor = copy("donor")
    tokenizer = json.loads((donor / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["q"], vocabulary["z"] = vocabulary["z"], vocabulary["q"]
    (donor / "tokenizer.json").write_text(json.dumps(tokenizer))
    report = compare(tiny_model, donor)
    assert report.compatible
    assert not report.same_tokenizer
    assert any("2 tokens" in d and "'q', 'z'" in d for d in report.differences)


def test_values_that_are_not_finite(copy, tiny_model):
    donor = copy("donor")
    change(donor, lambda weights: weights["model.norm.weight"].__setitem__(3, float("nan")))
    report = compare(tiny_model, donor)
    assert report.deltas[0].tensor == "model.norm.weight"
    assert report.max_abs_diff == float("inf")
    assert any("not finite" in difference for difference in report.differences)
    assert compare(donor, tiny_model).deltas[0].tensor == "model.norm.weight"


def test_damaged(copy, tiny_model):
    donor = copy("donor")
    (donor / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InvalidArgument):
        compare(tiny_model, donor)


@pytest.mark.parametrize(
    ("name", "component"),
    [
        ("model.layers.3.mlp.up_proj.weight", "mlp"),
        ("model.layers.3.self_attn.q_proj.weight", "attention"),
        ("model.layers.3.self_attn.q_norm.weight", "norm"),
        ("model.layers.3.input_layernorm.weight", "norm"),
        ("model.layers.3.post_attention_layernorm.weight", "norm"),
        ("model.norm.weight", "norm"),
        ("model.embed_tokens.weight", "embedding"),
        ("lm_head.weight", "head"),
        ("transformer.wte.weight", "embedding"),
        ("transformer.h.1.ln_1.bias", "norm"),
        ("transformer.ln_f.weight", "norm"),
        ("transformer.h.1.attn.c_attn.weight", "attention"),
        ("transformer.h.1.mlp.c_fc.weight", "mlp"),
        ("model.rotary.inv_freq", "other"),
    ],
)
def test_components(name, component):
    assert component_of(name) == component
