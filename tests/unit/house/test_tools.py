"""What ``make check`` runs, run by the suite as well: style, types, import contracts, drift of generated code."""

import subprocess
import sys
from pathlib import Path

from tests.unit.house.imports import ROOT

BIN = Path(sys.executable).parent


def run(*command: object) -> None:
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_code_is_what_the_protos_give():
    run(ROOT / "deploy" / "proto.sh", "--check")


def test_the_client_is_what_the_contract_gives():
    run(sys.executable, ROOT / "deploy" / "client.py", "--check")


def test_the_table_of_calls_is_what_the_protos_give():
    run(sys.executable, ROOT / "deploy" / "access.py", "--check")


def test_import_contracts_hold():
    run(BIN / "lint-imports", "--no-cache")


def test_ruff_has_nothing_to_say():
    run(BIN / "ruff", "check", "--no-cache", ".")
    run(BIN / "ruff", "format", "--check", "--no-cache", ".")


def test_types_check():
    run(BIN / "basedpyright", "--pythonpath", sys.executable)
