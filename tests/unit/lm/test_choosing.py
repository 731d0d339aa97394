"""Pass and dtype follow from the model and the processor: a busy moment must not change a model's bits."""

import ast
from pathlib import Path

import pytest
import torch

import palimpsest.lm
from palimpsest import processor
from palimpsest.lm import load
from palimpsest.lm.hardware import pick_dtype


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch):
    """Set what the processor says of itself."""

    def set_to(*known: str) -> None:
        monkeypatch.setattr(processor, "_capabilities", lambda: dict.fromkeys(known, True))
        processor.bfloat16_products.cache_clear()
        processor.bfloat16_tiles.cache_clear()

    yield set_to
    processor.bfloat16_products.cache_clear()
    processor.bfloat16_tiles.cache_clear()


def kinds(folder: Path, dtype: str) -> tuple[str, str]:
    model = load(folder, "cpu", dtype, threads=1, cache_bytes=8 << 20)
    model.close()
    return model.forward_kind, model.prefill_kind


@pytest.mark.parametrize(
    ("known", "dtype", "prefill"),
    [
        ((), "bfloat16", "compiled"),
        (("avx512_bf16",), "bfloat16", "compiled"),
        (("avx512_bf16", "amx_bf16"), "bfloat16", "fused"),
        (("avx512_bf16", "amx_bf16"), "float32", "compiled"),
    ],
)
def test_torch_reads_prompts_where_the_processor_multiplies_tiles(able, tiny_model, known, dtype, prefill):
    able(*known)
    assert kinds(tiny_model, dtype) == ("compiled", prefill)


@pytest.mark.parametrize(
    ("known", "compiled", "dtype"),
    [
        ((), True, torch.bfloat16),
        ((), False, torch.float32),
        (("avx512_bf16",), False, torch.bfloat16),
        (("amx_bf16",), False, torch.bfloat16),
    ],
)
def test_auto_is_bfloat16_where_it_is_fastest(able, known, compiled, dtype):
    able(*known)
    assert pick_dtype("auto", torch.device("cpu"), compiled) is dtype


def test_nothing_about_a_model_is_chosen_by_a_clock():
    clocks = {"time", "monotonic", "perf_counter", "process_time", "thread_time"}
    for path in Path(palimpsest.lm.__file__).parent.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        read = {each.attr for each in nodes if isinstance(each, ast.Attribute)}
        read |= {name.name for each in nodes if isinstance(each, ast.ImportFrom) for name in each.names}
        assert not {f"{kind}{unit}" for kind in clocks for unit in ("", "_ns")} & read, path
