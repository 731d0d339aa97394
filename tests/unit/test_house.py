"""The rules of the house, kept by their own tools."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from palimpsest.errors import Reason

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CODE = [p for base in ("shared", "services") for p in (ROOT / base).rglob("*.py") if "api" not in p.parts]


def run(*command: str | Path) -> None:
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_code_is_what_the_protos_give():
    run(ROOT / "deploy" / "proto.sh", "--check")


def test_import_contracts_hold():
    run(BIN / "lint-imports", "--no-cache")


def test_ruff_has_nothing_to_say():
    run(BIN / "ruff", "check", "--no-cache", ".")
    run(BIN / "ruff", "format", "--check", "--no-cache", ".")


def test_types_check():
    run(BIN / "basedpyright", "--pythonpath", sys.executable)


def test_every_reason_is_raised_somewhere_and_none_is_made_up():
    files = [p for p in CODE if p.name != "errors.py" or p.parent.name == "rpc"]
    text = "\n".join(
        p.read_text() for p in [*files, ROOT / "shared" / "palimpsest" / "jobs" / "transitions.lua"]
    )
    raised = set(re.findall(r"Reason\.([A-Z_]+)|failure\(\d+, '([A-Z_]+)'", text))
    assert {python or lua for python, lua in raised} == {reason.name for reason in Reason}


@pytest.mark.parametrize("room", sorted(p.parent.name for p in (ROOT / "services").glob("*/__init__.py")))
def test_every_room_has_the_same_doors(room):
    folder = ROOT / "services" / room
    for door in (
        "README.md",
        "__main__.py",
        "*service.py",
        "tasks.py",
    ):  # a large room has a service for each noun
        assert list(folder.glob(door)), door
    assert "import" not in (folder / "__main__.py").read_text().replace(
        "from services.__main__ import main", ""
    ), "a room starts through services.__main__ and nothing else"
