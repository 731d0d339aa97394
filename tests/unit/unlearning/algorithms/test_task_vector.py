"""Task vectors: bits at both ends, float32 in between, a tensor at a time, tied weights once."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from palimpsest.errors import FailedPrecondition
from palimpsest.progress import NullProgress
from services.unlearning.algorithms.task_vector import TaskVectorParameters, moved, subtract, subtract_folders
from tests.unit.unlearning.algorithms.conftest import near, tiny


def at(alpha, **more):
    return TaskVectorParameters(alpha=alpha, **more)


def saved(module, folder, dtype=torch.float32, **options):
    copy.deepcopy(module).to(dtype).save_pretrained(folder, **options)
    return folder


@pytest.fixture
def pair(tmp_path):
    target = tiny(tied=True).float()
    reinforced = near(target, scale=0.01)
    return target, reinforced, saved(target, tmp_path / "target"), saved(reinforced, tmp_path / "reinforced")


def result(pair, tmp_path, alpha, **more):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    subtract_folders(pair[2], pair[3], out, at(alpha, **more), NullProgress())
    return out


def test_nothing_subtracted_is_the_model_bit_for_bit(pair, tmp_path):
    out = result(pair, tmp_path, 0)
    assert (out / "model.safetensors").read_bytes() == (pair[2] / "model.safetensors").read_bytes()


def test_minus_one_is_the_reinforced_model_bit_for_bit(pair, tmp_path):
    got = load_file(result(pair, tmp_path, -1) / "model.safetensors")
    want = load_file(pair[3] / "model.safetensors")
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name].view(torch.int32), want[name].view(torch.int32)) for name in want)


def test_zeros_and_infinities_keep_their_bits():
    target = torch.tensor([-0.0, 0.0, float("inf"), 1e-40])
    other = torch.tensor([0.0, -0.0, 1.0, 1e38])
    assert torch.equal(moved(target, other, at(0)).view(torch.int32), target.view(torch.int32))
    assert torch.equal(moved(target, other, at(-1)).view(torch.int32), other.view(torch.int32))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_what_is_written_is_the_formula_in_float32(pair, tmp_path, alpha):
    got = load_file(result(pair, tmp_path, alpha) / "model.safetensors")
    for name, tensor in load_file(pair[2] / "model.safetensors").items():
        base = tensor.numpy()
        other = load_file(pair[3] / "model.safetensors")[name].numpy()
        want = base - np.float32(alpha) * (other - base)
        assert want.dtype == np.float32
        np.testing.assert_allclose(got[name].numpy(), want, rtol=1e-6)


def test_in_memory_and_on_disk_are_the_same(pair, tmp_path):
    out = load_file(result(pair, tmp_path, 2.0) / "model.safetensors")
    subtract(pair[0], pair[1], at(2.0))
    named = dict(pair[0].named_parameters())
    assert out.keys() == named.keys()
    assert all(torch.equal(out[name], named[name]) for name in out)


def test_tied_weights_are_moved_once_and_stay_tied(pair, tmp_path):
    before = pair[0].model.embed_tokens.weight.detach().clone()
    other = pair[1].model.embed_tokens.weight.detach()
    out = result(pair, tmp_path, 1.0)
    (out / "config.json").write_bytes((pair[2] / "config.json").read_bytes())
    loaded = AutoModelForCausalLM.from_pretrained(out)
    assert loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()
    torch.testing.assert_close(loaded.lm_head.weight.detach(), before - (other - before))
    subtract(pair[0], pair[1], at(1.0))
    torch.testing.assert_close(pair[0].lm_head.weight.detach(), before - (other - before))


def test_bfloat16_weights_are_subtracted_in_float32(tmp_path):
    """A reinforced weight one step of bfloat16 away, at a scale where alpha's product is finer than that step."""
    target = torch.tensor([1.0, 100.0], dtype=torch.bfloat16)
    other = torch.tensor([1.0078125, 100.5], dtype=torch.bfloat16)
    got = moved(target, other, at(0.3))
    want = target.float() - 0.3 * (other.float() - target.float())
    assert torch.equal(got, want.to(torch.bfloat16))


def test_the_legacy_subtraction_loses_small_updates():
    """What float32 keeps, bfloat16 rounds away: MUSE's released convention."""
    target, other = torch.tensor([1.0]), torch.tensor([1.0005])
    assert moved(target, other, at(1.0)).item() == pytest.approx(0.9995, rel=1e-6)
    assert moved(target, other, at(1.0, legacy_muse=True)).item() == 1.0
    base, further = (x.to(torch.bfloat16) for x in (torch.tensor([2.0, -3.3]), torch.tensor([2.5, -3.0])))
    want = base - 4 * (further - base)
    assert torch.equal(moved(base.float(), further.float(), at(4.0, legacy_muse=True)), want.float())


def test_weights_in_several_files(tmp_path, pair):
    target = saved(pair[0], tmp_path / "split", max_shard_size="4KB")
    files = sorted(target.glob("*.safetensors"))
    assert len(files) > 2
    out = tmp_path / "out"
    out.mkdir()
    subtract_folders(target, pair[3], out, at(1.5), NullProgress())
    assert sorted(path.name for path in out.iterdir()) == [
        *(path.name for path in files),
        "model.safetensors.index.json",
    ]
    one = tmp_path / "one"
    one.mkdir()
    subtract_folders(pair[2], pair[3], one, at(1.5), NullProgress())
    want = load_file(one / "model.safetensors")
    got = {name: tensor for file in files for name, tensor in load_file(out / file.name).items()}
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(want)


def test_counters_are_the_target_s(tmp_path):
    folders = []
    for name, count in (("a", 3), ("b", 9)):
        folder = tmp_path / name
        folder.mkdir()
        save_file({"w": torch.ones(2) * count, "n": torch.tensor([count])}, folder / "model.safetensors")
        folders.append(folder)
    out = tmp_path / "out"
    out.mkdir()
    subtract_folders(*folders, out, at(1.0), NullProgress())
    got = load_file(out / "model.safetensors")
    assert got["n"].tolist() == [3]
    assert got["w"].tolist() == [-3, -3]


def test_another_model_is_refused(pair, tmp_path):
    other = saved(tiny(layers=2).float(), tmp_path / "other")
    with pytest.raises(FailedPrecondition) as caught:
        subtract_folders(pair[2], other, Path(tmp_path), at(1.0), NullProgress())
    assert caught.value.reason == "TASK_VECTOR_MISMATCH"
    with pytest.raises(FailedPrecondition, match=r"layers\.2"):
        subtract(pair[0], tiny(layers=2).float(), at(1.0))


def test_only_one_tensor_is_in_memory(pair, tmp_path, monkeypatch):
    """No more than two tensors are read before one is written."""
    from services.unlearning.algorithms import task_vector

    events = []
    read, move = task_vector._read, task_vector.moved
    monkeypatch.setattr(task_vector, "_read", lambda tensor: events.append("read") or read(tensor))
    monkeypatch.setattr(task_vector, "moved", lambda *a: events.append("moved") or move(*a))
    result(pair, tmp_path, 1.0)
    assert events == ["read", "read", "moved"] * (len(events) // 3)
    assert len(events) == 3 * len(load_file(pair[2] / "model.safetensors"))
