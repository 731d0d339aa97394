"""A stack to test against: one of the run's own, or one that is already there.

By default the stack is what `palimpsest up` starts: a real Valkey, a real server, a real worker, a real gateway. With
PALIMPSEST_TEST_SERVER (and PALIMPSEST_TEST_TOKEN, PALIMPSEST_TEST_GATEWAY) the same suite runs against that server
instead, which is how the containers of compose.yaml are tested. Models the tests register must then be readable there
at the same path.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from palimpsest.embedded.stack import Stack
from palimpsest.rpc.channel import parse_targets
from palimpsest.settings import Settings


@dataclass(frozen=True)
class Served:
    """Where the stack answers."""

    target: str
    token: str | None = None
    state_dir: Path | None = None
    """Of the run's own stack; None for one that is elsewhere."""
    gateway: str = ""
    """URL of its HTTP gateway."""

    @property
    def address(self) -> str:
        """Host and port of the registry alone."""
        return parse_targets(self.target)[""]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running stack; tests keep apart by the names of their models and the contents of their artefacts."""
    elsewhere = os.environ.get("PALIMPSEST_TEST_SERVER")
    if elsewhere:
        gateway = os.environ.get("PALIMPSEST_TEST_GATEWAY", "")
        yield Served(elsewhere, os.environ.get("PALIMPSEST_TEST_TOKEN"), gateway=gateway)
        return
    settings = Settings(
        state_dir=tmp_path_factory.mktemp("stack"),
        redis_url="",
        listen="127.0.0.1:0",
        threads=1,
        drain_seconds=1.0,
    )
    with Stack(settings) as running:
        yield Served(running.target, state_dir=settings.state_dir, gateway=running.gateway)


@pytest.fixture(scope="session", autouse=True)
def readable_by_servers(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let servers that run as another user read the models of this run."""
    if os.environ.get("PALIMPSEST_TEST_SERVER"):
        folder: Path = tmp_path_factory.getbasetemp()
        folder.chmod(0o755)
        os.umask(0o022)
