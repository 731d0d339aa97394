"""The command against the real stack."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from palimpsest import Client, cli
from palimpsest.client import profiles
from tests.integration.conftest import Served


class Run:
    """What a command printed and ended with."""

    def __init__(self, result: Any) -> None:
        self.code = result.exit_code
        self.out = result.stdout
        self.err = result.stderr

    @property
    def json(self) -> Any:
        """The one JSON document printed."""
        return json.loads(self.out)


@pytest.fixture
def palimpsest(stack: Served) -> Callable[..., Run]:
    def run(*words: object, input: str | None = None) -> Run:
        environment = {
            "PALIMPSEST_SERVER": stack.target,
            "PALIMPSEST_TOKEN": stack.token or "",
            "PALIMPSEST_MODEL": "",
        }
        return Run(CliRunner().invoke(cli.app, [str(w) for w in words], input=input, env=environment))

    return run


@pytest.fixture(scope="session")
def cli_model(stack: Served, tiny_model: Path) -> str:
    with Client(stack.target, token=stack.token) as client:
        client.models.register_model(model_id="cli-tiny", source=str(tiny_model)).result(timeout=60)
    return "cli-tiny"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the user's own profiles out of it."""
    monkeypatch.setattr(profiles, "folder", lambda: tmp_path / "profiles")
