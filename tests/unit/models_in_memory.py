"""The tiny model in memory, and engines over it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from palimpsest.engine import Engine
from palimpsest.lm import LanguageModel, load


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tiny_model: Path) -> LanguageModel:
    """The tiny model in float32, with its compiled pass."""
    return load(tiny_model, "cpu", "float32", threads=1, cache_bytes=8 << 20)


@pytest.fixture
def make_engine(tiny_model: Path) -> Iterator[Callable[..., Engine]]:
    """Engines with models of their own; closed at the end."""
    engines: list[Engine] = []

    def make(cache_bytes: int = 8 << 20, **options) -> Engine:
        model = load(tiny_model, "cpu", "float32", threads=1, cache_bytes=cache_bytes)
        engines.append(Engine(model, **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
