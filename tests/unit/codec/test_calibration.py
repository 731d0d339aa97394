"""Calibration runs its model through the library's one loader: checked, in float32, on the installation's device."""

import shutil

import pytest
import torch

from palimpsest import lm
from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.kv import Rotary
from palimpsest.kv.sensitivity import measure
from palimpsest.models import ModelRecord, fingerprint_folder
from palimpsest.models.folder import inspect_folder
from palimpsest.progress import NullProgress
from services.codec import calibration
from services.codec.calibration import Samples, calibrate_model

SAMPLES = Samples(texts="the quick brown fox jumps over the lazy dog " * 200, documents=4, tokens=48, group=2)


def record_of(folder, settings) -> ModelRecord:
    found = fingerprint_folder(folder, settings.models_dir, NullProgress())
    return ModelRecord(
        model_id="tiny",
        fingerprint=found.model,
        tokenizer_fingerprint=found.tokenizer,
        source=str(folder),
        source_format="safetensors",
        path=str(folder),
        **vars(inspect_folder(folder)),
    )


def test_a_model_whose_files_changed_is_refused_before_it_is_loaded(tiny_model, settings, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    record = record_of(folder, settings)
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 0x40
    weights.write_bytes(data)
    with pytest.raises(FailedPrecondition) as refused:
        calibrate_model(record, SAMPLES, settings, NullProgress())
    assert refused.value.reason == Reason.MODEL_CHANGED


def test_the_model_is_loaded_on_the_installations_device_in_float32(tiny_model, settings, monkeypatch):
    loaded = []

    def load(source, device, dtype, **options):
        model = lm.load(source, device, dtype, **options)
        loaded.append((source, device, model.module.dtype, options))
        return model

    monkeypatch.setattr(calibration, "load", load)
    record = record_of(tiny_model, settings)
    on_cpu = settings.model_copy(update={"device": "cpu", "dtype": "bfloat16"})
    profile, facts = calibrate_model(record, SAMPLES, on_cpu, NullProgress())
    [(source, device, dtype, options)] = loaded
    assert (source, device, dtype) == (record, "cpu", torch.float32)
    assert options == {"trainable": True, "threads": on_cpu.threads}
    assert profile.model == facts.model_fingerprint == record.fingerprint
    assert [level.level for level in facts.levels] == list(profile.levels)
    losses = [level.loss for level in facts.levels]
    assert losses[0] < losses[-1], "coarser levels cost more"


def test_sensitivity_needs_gradients_of_the_cache_alone(tiny_model):
    """With frozen weights and without, and in whatever mode gradients are globally, the same is measured."""
    model = lm.load(tiny_model, "cpu", "float32", trainable=True, threads=1)
    ids = [list(range(3 + at, 43 + at)) for at in range(2)]
    trainable = measure(model.module, ids, rotary=Rotary(), continuation=16)
    assert all(weight.grad is None for weight in model.module.parameters())
    frozen = model.module.requires_grad_(False)
    with torch.no_grad():
        again = measure(frozen, ids, rotary=Rotary(), continuation=16)
    assert again.keys.equal(trainable.keys)
    assert again.values.equal(trainable.values)
    assert float(again.keys.abs().sum()) > 0
