"""The whole stack as users run it: real Valkey, real server, real worker, one for the whole run."""

from collections.abc import Iterator

import pytest

from palimpsest.embedded.stack import Stack
from palimpsest.settings import Settings


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack; tests keep apart by the names of their models and the contents of their artefacts."""
    settings = Settings(
        state_dir=tmp_path_factory.mktemp("stack"),
        redis_url="",
        listen="127.0.0.1:0",
        threads=1,
        drain_seconds=1.0,
    )
    with Stack(settings) as running:
        yield running
