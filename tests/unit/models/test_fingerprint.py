"""A fingerprint follows the content, and only the content."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from palimpsest.errors import Cancelled
from palimpsest.models import fingerprint_folder
from palimpsest.models.weights import INDEX_FILE
from palimpsest.progress import NullProgress


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture
def original(tiny_model):
    return fingerprint_folder(tiny_model)


def test_shape(original):
    for digest in (original.model, original.tokenizer):
        assert digest.startswith("sha256:")
        assert len(digest) == 71


def test_copies_and_formatting_do_not_matter(copy, original):
    folder = copy("m")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(dict(reversed(content.items())), indent=7))
    edit(folder / "config.json", transformers_version="0.0", _name_or_path="elsewhere", torch_dtype="float32")
    (folder / "README.md").write_text("words")
    assert fingerprint_folder(folder) == original


def test_sharding_does_not_matter(copy, original):
    folder = copy("m")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"model-{i % 3}.safetensors" for i, name in enumerate(weights)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in weights if files[name] == file}, folder / file)
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": files}))
    assert fingerprint_folder(folder) == original


@pytest.mark.parametrize("change", ["value", "name", "dtype", "sign of zero"])
def test_weights_matter(copy, original, change):
    folder = copy("m")
    weights = load_file(folder / "model.safetensors")
    name = "model.norm.weight"
    if change == "value":
        weights[name][5] += 1e-6
    elif change == "name":
        weights["model.norm.other"] = weights.pop(name)
    elif change == "dtype":
        weights[name] = weights[name].bfloat16()
    else:
        weights[name][0] = 0.0
        save_file(weights, folder / "model.safetensors")
        original = fingerprint_folder(folder)
        weights[name][0] = -0.0
    save_file(weights, folder / "model.safetensors")
    found = fingerprint_folder(folder)
    assert found.model != original.model
    assert found.tokenizer == original.tokenizer


def test_config_matters(copy, original):
    folder = copy("m")
    edit(folder / "config.json", rms_norm_eps=1e-3)
    found = fingerprint_folder(folder)
    assert found.model != original.model
    assert found.tokenizer == original.tokenizer


def test_tokenizer_matters(copy, original):
    folder = copy("m")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = list(vocabulary)[:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    found = fingerprint_folder(folder)
    assert found.model != original.model
    assert found.tokenizer != original.tokenizer


def test_chat_template_leaves_the_tokenizer_alone(copy, original):
    folder = copy("m")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    found = fingerprint_folder(folder)
    assert found.model != original.model
    assert found.tokenizer == original.tokenizer


class Reading(NullProgress):
    def __init__(self) -> None:
        super().__init__()
        self.tensors = 0

    def step(self, done: int, total: int, stage: str = "") -> None:
        self.tensors += 1


def test_memo(copy, original, tmp_path):
    folder, memo = copy("m"), tmp_path / "memo"
    first, second, third, fourth = Reading(), Reading(), Reading(), Reading()
    assert fingerprint_folder(folder, memo, first) == original
    assert fingerprint_folder(folder, memo, second) == original
    assert (first.tensors > 0, second.tensors) == (True, 0)
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert fingerprint_folder(folder, memo, third) == original
    assert third.tensors > 0
    next(memo.iterdir()).write_text("{")
    assert fingerprint_folder(folder, memo, fourth) == original
    assert fourth.tensors > 0


def test_memo_of_a_changed_file(copy, original, tmp_path):
    folder, memo = copy("m"), tmp_path / "memo"
    fingerprint_folder(folder, memo)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] += torch.ones(())
    save_file(weights, folder / "model.safetensors")
    assert fingerprint_folder(folder, memo).model != original.model


def test_cancelled(copy, tmp_path):
    class Cancelling(NullProgress):
        def check(self) -> None:
            raise Cancelled("JOB_CANCELLED", "stop")

    with pytest.raises(Cancelled):
        fingerprint_folder(copy("m"), tmp_path, Cancelling())
