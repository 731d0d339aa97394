"""Fixtures every kind of test shares: a real Valkey, settings in a scratch folder, two models."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.settings import Settings
from tests import promises

# Two threads of matrix products under load wait for each other more than they work.
os.environ.setdefault("PALIMPSEST_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.parallel import Scheduling

    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests where several processes share them."""
    if hasattr(config, "workerinput"):
        from tests.parallel import longest_first

        longest_first(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long the promises with a bound took to be kept."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    if lines := promises.summary(reports):
        terminalreporter.section("promises with a bound")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A real server for the whole run; tests keep apart by key prefix."""
    server = ValkeyServer(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.stop()


@pytest.fixture
def redis_prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}:"


@pytest.fixture
def settings(valkey: ValkeyServer, redis_prefix: str, tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path / "state",
        redis_url=valkey.url,
        redis_prefix=redis_prefix,
        listen="127.0.0.1:0",
        threads=1,
    )


@pytest.fixture(scope="session")
def model_cache() -> Path:
    """Where converted models are kept between runs; what is in it is named by its source's digest."""
    folder = Path(
        os.environ.get(
            "PALIMPSEST_TEST_CACHE", platformdirs.user_cache_dir("palimpsest-tests", appauthor=False)
        )
    )
    folder.mkdir(parents=True, exist_ok=True)  # tests link to it before anything has been converted
    return folder


@pytest.fixture(scope="session")
def sample_model(model_cache: Path) -> Path:
    """SmolLM2-135M-Instruct as a safetensors folder."""
    from palimpsest.models import convert_gguf, sample_gguf

    return convert_gguf(sample_gguf(), model_cache)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer llama: loads in a blink, says nothing sensible."""
    from tests.tiny import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("tiny-llama"))
