"""A job system of each test's own, Valkey included, to be killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.settings import Settings
from tests.integration.jobs.harness import SHORT, Bench


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of the test's own, to be killed."""
    server = ValkeyServer(tmp_path / "valkey").start()
    yield server
    server.stop()


@pytest.fixture
def bench(server: ValkeyServer, redis_prefix: str, tmp_path: Path) -> Iterator[Bench]:
    """Stores, a reconciler and workers with short leases."""
    settings = Settings(state_dir=tmp_path / "state", redis_url=server.url, redis_prefix=redis_prefix)
    bench = Bench(settings.model_copy(update=SHORT), tmp_path)
    yield bench
    bench.close()
