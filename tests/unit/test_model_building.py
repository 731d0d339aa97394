"""Models built while other threads compute: everybody keeps the dtype that is theirs."""

import threading

import pytest
import torch
import transformers

from palimpsest.lm import load
from palimpsest.model_building import building
from tests.unit.lm.test_anatomy import MODELS


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_what_transformers_builds_alone(tmp_path, name, dtype):
    torch.manual_seed(3)
    transformers.AutoModelForCausalLM.from_config(MODELS[name]).save_pretrained(tmp_path)
    alone = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    with building():
        beside = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    for kind in ("named_parameters", "named_buffers"):
        expected, found = dict(getattr(alone, kind)()), dict(getattr(beside, kind)())
        assert {n: (t.dtype, t.shape) for n, t in found.items()} == {
            n: (t.dtype, t.shape) for n, t in expected.items()
        }
        assert all(torch.equal(found[n], expected[n]) for n in expected)


def test_what_other_threads_make_is_float32_while_models_are_built(tiny_model):
    done, seen, failures = threading.Event(), set(), []

    def compute() -> None:
        while not done.is_set():
            seen.update((torch.get_default_dtype(), torch.zeros(2).dtype, torch.tensor(0.5).dtype))

    def build(dtype: str) -> None:
        try:
            for _ in range(3):
                model = load(tiny_model, "cpu", dtype)
                assert next(model.module.parameters()).dtype == getattr(torch, dtype)
        except Exception as error:
            failures.append(error)

    watcher = threading.Thread(target=compute)
    builders = [threading.Thread(target=build, args=(dtype,)) for dtype in ("bfloat16", "float32")]
    watcher.start()
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    done.set()
    watcher.join()
    assert failures == []
    assert seen == {torch.float32}
    assert torch.get_default_dtype() == torch.float32
