"""Which folders are models, and which are refused, and why."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from palimpsest.errors import InvalidArgument
from palimpsest.models.folder import inspect_folder
from palimpsest.models.weights import stored_tensors


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def refused(folder, reason="MODEL_INVALID"):
    with pytest.raises(InvalidArgument) as caught:
        inspect_folder(folder)
    assert caught.value.reason == reason
    return caught.value.message


def test_facts(tiny_model):
    facts = inspect_folder(tiny_model)
    weights = load_file(tiny_model / "model.safetensors")
    assert facts.architecture == "LlamaForCausalLM"
    assert facts.parameter_count == sum(tensor.numel() for tensor in weights.values())
    assert facts.size_bytes == 4 * facts.parameter_count
    assert (facts.dtype, facts.context_length, facts.has_chat_template) == ("float32", 2048, True)
    assert facts.vocab_size == weights["model.embed_tokens.weight"].shape[0]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt", "state.pkl"])
def test_pickled_weights(copy, name):
    folder = copy("m")
    (folder / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, folder / name)
    message = refused(folder, "MODEL_PICKLED")
    assert name in message
    assert "save_pretrained" in message


def test_index_that_names_pickles(copy):
    folder = copy("m")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "pytorch_model-1.bin", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "pytorch_model-1.bin" in refused(folder, "MODEL_PICKLED")


def test_pickle_under_another_name(copy):
    folder = copy("m")
    torch.save({"x": torch.zeros(1)}, folder / "model.safetensors")
    refused(folder, "MODEL_PICKLED")


def test_pickles_beside_safetensors_are_never_opened(copy):
    folder = copy("m")
    (folder / "training_args.bin").write_bytes(b"\x80\x04never read")
    inspect_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing(copy, name):
    folder = copy("m")
    (folder / name).unlink()
    assert name in refused(folder)


def test_no_tokenizer(copy):
    folder = copy("m")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert "tokenizer" in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["", "{", "[1]", '"x"', "\0\0"])
def test_damaged_json(copy, name, content):
    folder = copy("m")
    (folder / name).write_text(content)
    refused(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_its_own(copy, name):
    folder = copy("m")
    edit(folder / name, auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    assert "auto_map" in refused(folder)


@pytest.mark.parametrize(
    "fields",
    [{"model_type": "bert"}, {"model_type": "no-such-type"}, {"hidden_size": 128}, {"vocab_size": 7},
     {"hidden_size": "many"}, {"num_attention_heads": 0}, {"architectures": []}],
)  # fmt: skip
def test_config_that_does_not_fit(copy, fields):
    folder = copy("m")
    edit(folder / "config.json", **fields)
    refused(folder)


def test_weights_of_something_else(copy):
    folder = copy("m")
    save_file({"x": torch.zeros(3)}, folder / "model.safetensors")
    refused(folder)


@pytest.mark.parametrize("share", [0, 1e-5, 0.001, 0.5, 0.9999])
def test_weights_cut_short(copy, share):
    folder = copy("m")
    path = folder / "model.safetensors"
    os.truncate(path, int(path.stat().st_size * share))
    refused(folder)


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"[]", b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
     b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
     b'{"a": {"dtype": "F3", "shape": [1], "data_offsets": [0, 4]}}',
     b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
     b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
     b' "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'],
)  # fmt: skip
def test_damaged_header(copy, header):
    folder = copy("m")
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    refused(folder)


def shard(folder, names=("model-1.safetensors", "model-2.safetensors")):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {name: names[i % len(names)] for i, name in enumerate(sorted(weights))}
    for file in names:
        chosen = {name: tensor for name, tensor in weights.items() if weight_map[name] == file}
        save_file(chosen, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_shards(copy, tiny_model):
    folder = shard(copy("m"))
    assert inspect_folder(folder) == inspect_folder(tiny_model)
    assert stored_tensors(folder).keys() == stored_tensors(tiny_model).keys()
    (folder / "model-2.safetensors").unlink()
    assert "model-2.safetensors" in refused(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "x.txt"])
def test_index_that_leads_elsewhere(copy, name):
    folder = copy("m")
    (folder / "model.safetensors").rename(folder / "x.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    refused(folder)
