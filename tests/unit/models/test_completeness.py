"""Registered means right: weights that are not the whole of a model, or more than it, are refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, Qwen2Config, Qwen2MoeConfig

from palimpsest.errors import InvalidArgument
from palimpsest.lm import load
from palimpsest.models import convert_gguf
from palimpsest.models.folder import inspect_folder
from tests.gguf_files import LAYERS, WIDTH, tensor_shapes, write_gguf

Tensors = dict[str, torch.Tensor]
Disturb = Callable[[Path, Tensors], None]


def edit(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def without(*parts: str) -> Disturb:
    def disturb(_folder: Path, tensors: Tensors) -> None:
        for name in [name for name in tensors if any(part in name for part in parts)]:
            del tensors[name]

    return disturb


def renamed(prefix: str, other: str) -> Disturb:
    def disturb(_folder: Path, tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith(prefix)]:
            tensors[other + name.removeprefix(prefix)] = tensors.pop(name)

    return disturb


def told(folder: Path, use: Callable[[Path], object]) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        use(folder)
    assert caught.value.reason == "MODEL_INVALID"
    return caught.value


def loaded(folder: Path) -> object:
    return load(folder, "cpu", "float32", threads=1, cache_bytes=1 << 20)


LAYER = 9
"""Tensors in a layer of the tiny model."""
ALL = 2 * LAYER + 2
WRONG: dict[str, tuple[Disturb, tuple[int, int, int], list[str]]] = {
    "no head in an untied model": (
        lambda folder, _: edit(folder, tie_word_embeddings=False),
        (1, 0, 0),
        ["lm_head.weight"],
    ),
    "a lost layer": (
        without("layers.1."),
        (LAYER, 0, 0),
        ["model.layers.1.input_layernorm.weight", "4 more"],
    ),
    "one lost matrix": (without("layers.0.mlp.up"), (1, 0, 0), ["model.layers.0.mlp.up_proj.weight"]),
    "no embedding in a tied model": (
        without("embed_tokens"),
        (2, 0, 0),
        ["lm_head.weight", "model.embed_tokens.weight"],
    ),
    "another prefix": (renamed("model.", "net."), (ALL + 1, ALL, 0), ["lm_head.weight", "net."]),
    "more layers in the config": (
        lambda folder, _: edit(folder, num_hidden_layers=3),
        (LAYER, 0, 0),
        ["model.layers.2."],
    ),
    "fewer layers in the config": (
        lambda folder, _: edit(folder, num_hidden_layers=1),
        (0, LAYER, 0),
        ["model.layers.1."],
    ),
    "other widths": (
        lambda folder, _: edit(folder, intermediate_size=80),
        (0, 0, 6),
        ["mlp.down_proj.weight has [64, 160] instead of [64, 80]"],
    ),
    "a head of something else": (
        lambda _, tensors: tensors.update({"score.weight": torch.ones(2, 64)}),
        (0, 1, 0),
        ["score.weight"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_weights_that_are_not_the_model_are_refused_by_name(name: str, copy: Callable[[str], Path]):
    """At registration, and where it is loaded: files change."""
    disturb, counts, words = WRONG[name]
    folder = copy("m")
    tensors = load_file(folder / "model.safetensors")
    disturb(folder, tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for use in (inspect_folder, loaded):
        error = told(folder, use)
        assert tuple(int(error.metadata[key]) for key in ("missing", "unexpected", "mismatched")) == counts
        assert all(word in error.message for word in words), error.message
        assert len(error.message) < 1500


def test_an_index_that_leaves_a_shard_out_is_refused(copy: Callable[[str], Path]):
    folder = copy("m")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    first = {name: each for name, each in tensors.items() if "layers.1." not in name}
    save_file(first, folder / "model-1.safetensors", metadata={"format": "pt"})
    save_file(
        {name: each for name, each in tensors.items() if name not in first},
        folder / "model-2.safetensors",
        metadata={"format": "pt"},
    )
    index = {"metadata": {}, "weight_map": dict.fromkeys(first, "model-1.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for use in (inspect_folder, loaded):
        assert told(folder, use).metadata["missing"] == str(LAYER)


def test_what_a_checkpoint_may_lack_or_have_too_much_is_no_fault(copy: Callable[[str], Path]):
    """A tied head that is stored all the same, and the rotary frequencies that old versions stored."""
    folder = copy("m")
    tensors = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in tensors
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    for layer in range(2):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    inspect_folder(folder)
    loaded(folder)


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(n_embd=32, n_head=2, n_layer=2, vocab_size=347, n_positions=64),
        GPTNeoXConfig(
            hidden_size=32, num_attention_heads=2, num_hidden_layers=2, intermediate_size=64, vocab_size=347
        ),
        Qwen2Config(
            hidden_size=32,
            num_attention_heads=2,
            num_key_value_heads=1,
            num_hidden_layers=2,
            intermediate_size=64,
            vocab_size=347,
        ),
        Qwen2MoeConfig(
            hidden_size=32,
            num_attention_heads=2,
            num_key_value_heads=1,
            num_hidden_layers=2,
            intermediate_size=64,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
            num_experts=4,
            vocab_size=347,
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_other_architectures_are_whole_as_transformers_saves_them(config, copy: Callable[[str], Path]):
    folder = copy("m")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    inspect_folder(folder)
    tensors = load_file(folder / "model.safetensors")
    lost = next(name for name in sorted(tensors) if ".1." in name)
    del tensors[lost]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    # An expert that is missing makes the stack of experts another shape.
    assert [*told(folder, inspect_folder).metadata.values()].count("1") == 1


BLOCK = [name for name in tensor_shapes() if name.startswith("blk.")]
GGUF: dict[str, tuple[dict[str, object], list[str]]] = {
    "a lost layer": (
        {"leave_out": BLOCK},
        ["model.layers.0.", f"{len(BLOCK)} of the model's tensors are missing"],
    ),
    "a lost matrix": ({"leave_out": ["blk.0.ffn_up.weight"]}, ["model.layers.0.mlp.up_proj.weight"]),
    "more layers than tensors": ({"layers": LAYERS + 1}, ["model.layers.1."]),
    "more tensors than layers": ({"add": {"blk.1.attn_norm.weight": (WIDTH,)}}, ["blk.1.attn_norm.weight"]),
    "a bias nobody reads": ({"add": {"blk.0.attn_q.bias": (WIDTH,)}}, ["blk.0.attn_q.bias"]),
    "rope_freqs": ({"add": {"rope_freqs.weight": (WIDTH // 4,)}}, ["rope_freqs.weight", "rotary"]),
    "rope.scaling": (
        {"settings": {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}},
        ["llama.rope.scaling.type", "llama.rope.scaling.factor"],
    ),
    "the first part of two": ({"settings": {"split.no": 0, "split.count": 2}}, ["1 of 2", "--merge"]),
    "an unknown pre-tokenizer": ({"pre": "something-else"}, ["'something-else'"]),
    "no pre-tokenizer": ({"pre": None}, ["tokenizer.ggml.pre"]),
}


@pytest.mark.parametrize("name", GGUF)
def test_a_gguf_file_is_converted_whole_or_refused_by_name(name: str, tmp_path: Path):
    changes, words = GGUF[name]
    path = write_gguf(tmp_path / "m.gguf", **changes)
    error = told(path, lambda path: convert_gguf(path, tmp_path / "models"))
    assert all(word in error.message for word in words), error.message
    assert not [each for each in (tmp_path / "models").glob("*") if each.is_dir()]


def test_a_gguf_file_whose_scaling_is_none_is_converted(tmp_path: Path):
    plain = convert_gguf(write_gguf(tmp_path / "plain.gguf"), tmp_path / "models")
    said = write_gguf(tmp_path / "said.gguf", settings={"llama.rope.scaling.type": "none"})
    folder = convert_gguf(said, tmp_path / "models")
    ours, theirs = (load_file(each / "model.safetensors") for each in (folder, plain))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    shutil.rmtree(tmp_path / "models")


def test_an_untied_gguf_file_is_whole(tmp_path: Path):
    shape = tensor_shapes()["token_embd.weight"]
    folder = convert_gguf(write_gguf(tmp_path / "m.gguf", add={"output.weight": shape}), tmp_path / "models")
    inspect_folder(folder)
    stored = load_file(folder / "model.safetensors")
    reader = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}["output.weight"]
    expected = gguf.dequantize(reader.data, reader.tensor_type).reshape(shape)
    assert np.array_equal(stored["lm_head.weight"].numpy(), expected)
