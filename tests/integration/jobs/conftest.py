"""One set of stores, reconciler and workers for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from palimpsest.settings import Settings
from tests.integration.jobs.harness import SHORT, Bench


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(settings.model_copy(update=SHORT), tmp_path)
    yield bench
    bench.close()
