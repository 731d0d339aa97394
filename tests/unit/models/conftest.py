"""A catalogue over a real Valkey, copies of the tiny model to disturb, and a tiny GGUF file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.models import ModelCatalogue
from tests.gguf_files import write_gguf


@pytest.fixture
def catalogue(valkey: ValkeyServer, redis_prefix: str) -> ModelCatalogue:
    return ModelCatalogue(redis.Redis.from_url(valkey.url), redis_prefix)


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(tiny_model, tmp_path / name))


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A one-layer llama with a byte vocabulary, most of it in Q8_0."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")
