"""A trained model as a folder: what the registry takes, with its base's tokenizer, and exactly the trained weights."""

import errno
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from palimpsest.errors import FailedPrecondition, ResourceExhausted
from palimpsest.lm import load
from palimpsest.models import fingerprint_folder
from palimpsest.models.folder import inspect_folder
from palimpsest.progress import NullProgress
from palimpsest.training import LoraSettings, Recipe, saving, train
from palimpsest.training.adapters import attach
from palimpsest.training.cross_entropy import CrossEntropy
from palimpsest.training.saving import save_model

RECIPE = Recipe(steps=2, learning_rate=1e-2, batch=2)


@pytest.fixture
def untied(tiny_model, tmp_path):
    """The tiny model with a head of its own, although its config says otherwise: weights decide."""
    folder = shutil.copytree(tiny_model, tmp_path / "untied")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * 0.5 + 0.01
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = (
        (folder / "config.json")
        .read_text()
        .replace('"tie_word_embeddings": true', '"tie_word_embeddings": false')
    )
    (folder / "config.json").write_text(config)
    return folder


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_what_is_saved_is_what_was_trained(tiny_model, untied, examples, tmp_path, kind):
    base = tiny_model if kind == "tied" else untied
    (base / "notes.txt").write_text("kept beside the tokenizer")
    module = load(base, "cpu", trainable=True, threads=1).module
    train(module, CrossEntropy(examples, RECIPE, 0), RECIPE, progress=NullProgress())
    save_model(module, base, tmp_path / "made")
    facts = inspect_folder(tmp_path / "made")
    assert facts.dtype == "float32"
    assert facts.parameter_count == sum(p.numel() for p in module.parameters())
    names = load_file(tmp_path / "made" / "model.safetensors").keys()
    assert ("lm_head.weight" in names) == (kind == "untied")
    one, other = fingerprint_folder(base), fingerprint_folder(tmp_path / "made")
    assert one.tokenizer == other.tokenizer
    assert one.model != other.model
    again = load(tmp_path / "made", "cpu", trainable=True, threads=1).module
    for (name, parameter), (_, read) in zip(module.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(parameter, read), name
    assert (tmp_path / "made" / "notes.txt").exists()
    (base / "notes.txt").unlink()


def test_an_untrained_model_keeps_its_fingerprint(tiny_model, tmp_path):
    save_model(load(tiny_model, "cpu", trainable=True, threads=1).module, tiny_model, tmp_path / "made")
    assert fingerprint_folder(tmp_path / "made") == fingerprint_folder(tiny_model)


def test_an_adapter_is_merged_or_saved_alone(tiny_model, tmp_path):
    module = load(tiny_model, "cpu", trainable=True, threads=1).module
    attach(module, LoraSettings(), 0)
    with pytest.raises(FailedPrecondition) as caught:
        save_model(module, tiny_model, tmp_path / "made")
    assert caught.value.reason == "ADAPTER_ATTACHED"


def test_nothing_is_left_where_the_disk_is_full(tiny_model, tmp_path, monkeypatch):
    def full(_folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving, "sync_tree", full)
    module = load(tiny_model, "cpu", trainable=True, threads=1).module
    with pytest.raises(ResourceExhausted) as caught:
        save_model(module, tiny_model, tmp_path / "made")
    assert caught.value.reason == "DISK_FULL"
    assert not (tmp_path / "made").exists()
