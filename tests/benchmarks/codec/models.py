"""The sample model as the codec's benchmark uses it: exact caches, a calibration profile, the fastest prefill."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import platformdirs
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from palimpsest.kv import CalibrationProfile, KeyValues, Rotary, calibrate, from_cache, to_cache
from palimpsest.kv.sensitivity import measure
from palimpsest.lm import Cache, LanguageModel, SequenceInput, load
from palimpsest.models import convert_gguf, sample_gguf
from tests.benchmarks.documents import calibration_documents
from tests.benchmarks.figures import Figures, interleaved

PREFIX, CONTINUATION = 2048, 256
MEASURED = "balanced"
ROUNDS = 5
THREADS = 2
PIECE = 256
"""Tokens of a prompt that the engine takes in one step, and of a chunk that is loaded."""


@dataclass(frozen=True)
class Sample:
    """The model, in float32 as transformers has it, and what calibration learned about it."""

    path: Path
    tokenizer: Any
    model: PreTrainedModel
    profile: CalibrationProfile


def sample(figures: Figures) -> Sample:
    """Load and calibrate the sample model."""
    path = convert_gguf(sample_gguf(), Path(platformdirs.user_cache_dir("palimpsest-tests", appauthor=False)))
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval().requires_grad_(False)
    return Sample(path, tokenizer, model, _profile(model, tokenizer, figures))


def _profile(model: PreTrainedModel, tokenizer: Any, figures: Figures) -> CalibrationProfile:
    """Calibrate on documents of their own, or read what an earlier run kept."""
    kept = os.environ.get("PALIMPSEST_BENCH_PROFILE")
    if kept and Path(kept).exists():
        figures.figure("calibration", "kept from an earlier run")
        return CalibrationProfile.from_bytes(Path(kept).read_bytes())
    texts = calibration_documents(tokenizer)
    rotary = Rotary.of(model.config)
    start = time.perf_counter()
    sensitivity = measure(model, texts[::3], rotary=rotary)
    caches = [halved(prefill(model, ids)) for ids in texts]
    profile = calibrate(caches, rotary=rotary, sensitivity=sensitivity)
    figures.figure("calibration seconds", time.perf_counter() - start)
    figures.figure("calibration tokens", sum(len(ids) for ids in texts))
    if kept:
        Path(kept).write_bytes(profile.to_bytes())
    return profile


@torch.no_grad()
def prefill(model: PreTrainedModel, ids: Sequence[int]) -> KeyValues:
    """The exact cache, in the model's type."""
    return from_cache(model(torch.tensor([list(ids)]), use_cache=True, logits_to_keep=1).past_key_values)


def halved(kv: KeyValues) -> KeyValues:
    """The cache as it is stored."""
    return KeyValues(kv.keys.bfloat16(), kv.values.bfloat16(), kv.start)


def cache_of(kv: KeyValues, model: PreTrainedModel):
    """A cache that a float32 model goes on from."""
    return to_cache(KeyValues(kv.keys.float(), kv.values.float()), model.config)


class Prefill(Protocol):
    """A way to prefill: all of a text, or one stretch after another."""

    def start(self) -> None:
        """Begin an empty context."""
        ...

    def extend(self, ids: Sequence[int]) -> None:
        """Go on with these tokens."""
        ...

    def export(self, start: int) -> KeyValues:
        """Keys and values from a position on."""
        ...


class EnginePrefill:
    """The engine's forward pass, in the steps its engine takes."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.model: LanguageModel = load(path, "cpu", dtype, threads=THREADS, cache_bytes=192 << 20)
        self.cache: Cache | None = None

    def start(self) -> None:
        if self.cache is not None:
            self.cache.release()
        self.cache = self.model.new_cache()

    def extend(self, ids: Sequence[int]) -> None:
        assert self.cache is not None
        for at in range(0, len(ids), PIECE):
            self.model.forward([SequenceInput(self.cache, ids[at : at + PIECE], logits="none")])

    def export(self, start: int) -> KeyValues:
        assert self.cache is not None
        return KeyValues(*self.cache.export(start), start)


class ModulePrefill:
    """transformers' forward pass: a whole stretch at once."""

    def __init__(self, path: Path, dtype: str) -> None:
        kind = getattr(torch, dtype)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=kind).eval().requires_grad_(False)
        self.cache: Any = None

    def start(self) -> None:
        self.cache = None

    @torch.no_grad()
    def extend(self, ids: Sequence[int]) -> None:
        row = torch.tensor([list(ids)])
        found = self.model(row, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache = found.past_key_values

    def export(self, start: int) -> KeyValues:
        return from_cache(self.cache)[start:]


def whole(way: Prefill, ids: Sequence[int]) -> None:
    """Prefill all of a text."""
    torch.set_num_threads(THREADS)
    way.start()
    way.extend(ids)


def fastest_prefill(path: Path, ids: Sequence[int], figures: Figures) -> Prefill:
    """The text baseline: the fastest of transformers and the engine, each in both types, on this machine now."""
    ways: dict[str, Prefill] = {}
    for dtype in ("float32", "bfloat16"):
        ways[f"engine {dtype}"] = EnginePrefill(path, dtype)
        ways[f"transformers {dtype}"] = ModulePrefill(path, dtype)
    seconds = interleaved({name: lambda w=way: whole(w, ids[:512]) for name, way in ways.items()}, 3)
    for name, taken in seconds.items():
        figures.figure(f"prefill of 512 tokens by {name}, tokens a second", 512 / taken)
    best = min(seconds, key=seconds.__getitem__)
    figures.figure("text baseline", best)
    for name, way in ways.items():
        if isinstance(way, EnginePrefill) and name != best:
            way.model.close()
    return ways[best]
