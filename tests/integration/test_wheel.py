"""A stack that runs from an unpacked wheel, with the checkout nowhere on its path."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wheels import built, environment, unpacked


class Command:
    """``palimpsest`` as a wheel's user has it."""

    def __init__(self, site: Path, folder: Path) -> None:
        self.folder = folder
        self.environment = environment(site) | {
            "PALIMPSEST_STATE_DIR": str(folder / "state"),
            "PALIMPSEST_LISTEN": "127.0.0.1:0",
            "PALIMPSEST_THREADS": "1",
        }

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "palimpsest.cli", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    (tmp_path / "site").mkdir()
    (tmp_path / "away").mkdir()
    run = Command(unpacked(built(tmp_path), tmp_path / "site"), tmp_path / "away")
    yield run
    run("down")


def test_a_wheel_alone_serves_and_runs_jobs(command: Command, tiny_model: Path):
    command("up", "--detach")
    state = json.loads((command.folder / "state" / "stack.json").read_text())
    for process in (state["processes"]["server"], state["processes"]["worker"]):
        assert Path(f"/proc/{process}/cwd").readlink() == command.folder.parent / "site/palimpsest/_server"
    command("models", "register", "tiny", str(tiny_model))
    (model,) = json.loads(command("models", "list", "--json"))
    assert model["model_id"] == "tiny"
    services = next(f for f in json.loads(command("doctor", "--json")) if f["check"] == "services")
    assert services["found"].endswith("palimpsest/_server")
