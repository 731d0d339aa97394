"""The commands and the Python of README.md and of every room's page, run as they are written."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.__main__ import room_names

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
MAKE = {"make demo", "make test", "pip install 'palimpsest-lm[all]'", "palimpsest demo"}
"""Run by hand, by continuous integration and by `make bench-wheel`: they install anew, or run this test."""


PRINTED = {
    "codec": ["tokens,", "nats a token"],
    "datastore": ["grace version 1", "Grace Hopper found a moth in a relay"],
    "decoding": ["held", "[1]", "Marwick"],
    "grafting": ["llama 30 layers", "KASTROVA", "cells"],
    "unlearning": ["tokens to train on", "removalRequests/vault sha256:"],
    "registry": ["LlamaForCausalLM 134515008 sha256:", "smollm2-ink: loss"],
}
"""What the examples of a room's page have to print, among other things."""


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if line not in MAKE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    (folder / "state").mkdir()
    (folder / "state" / "models").symlink_to(
        model_cache
    )  # the conversion of the sample, done once for all tests
    return folder


@pytest.fixture(scope="module")
def environment(folder: Path) -> Iterator[dict[str, str]]:
    values = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PALIMPSEST_STATE_DIR": str(folder / "state"),
        "PALIMPSEST_LISTEN": "127.0.0.1:0",
        "PALIMPSEST_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    yield values
    subprocess.run(
        ["palimpsest", "down"], env=values, cwd=folder, capture_output=True, timeout=60, check=False
    )


@pytest.mark.model
@pytest.mark.timeout(600)
def test_commands_of_the_readme(folder: Path, environment: dict[str, str]):
    assert len(commands()) > 8
    assert [entry.name for entry in folder.iterdir()] == ["state"], "the page makes the files that it uses"
    for command in commands():
        done = subprocess.run(
            ["bash", "-c", command], env=environment, cwd=folder, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert len((folder / "answers.jsonl").read_text().splitlines()) == 2
    assert "<svg" in (folder / "manual.html").read_text()


def python(block: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", block],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.model
@pytest.mark.timeout(600)
def test_python_of_the_readme(folder: Path, environment: dict[str, str]):
    for block in blocks("python"):
        printed = python(block, folder, environment)
        assert "perplexity" in printed
        assert "100%" in printed
        assert "tokens in" in printed


@pytest.mark.model
@pytest.mark.timeout(900)
@pytest.mark.parametrize("room", room_names())
def test_python_of_a_rooms_page(room: str, folder: Path, environment: dict[str, str]):
    """Each example stands alone: it registers what it needs, and runs on a stack that others have used."""
    page = (ROOT / "services" / room / "README.md").read_text()
    found = blocks("python", page)
    assert found, f"services/{room}/README.md shows no example"
    printed = "\n".join(python(block, folder, environment) for block in found)
    for expected in PRINTED[room]:
        assert expected in printed, printed
