"""Importing the package, the client and the command costs little and brings in nothing heavy."""

import re
import subprocess
import sys

import pytest

import palimpsest

HEAVY = {"torch", "transformers", "celery", "redis", "numba", "numpy"}


def imported_by(statement: str) -> tuple[set[str], float]:
    """Top-level packages an import brings in, and its cumulated seconds."""
    report = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement], capture_output=True, text=True, check=True
    ).stderr
    rows = re.findall(r"import time:\s+(\d+) \|\s+(\d+) \| +([\w.]+)", report)
    return {name.partition(".")[0] for _, _, name in rows}, sum(int(own) for own, _, _ in rows) / 1e6


@pytest.mark.parametrize(
    "statement",
    [
        "import palimpsest",
        "import palimpsest.client",
        "from palimpsest import Client",
        "import palimpsest.cli",
        "from palimpsest.embedded.stack import Stack",
    ],
)
def test_no_heavy_import(statement):
    packages, _ = imported_by(statement)
    assert not packages & HEAVY


def test_the_bare_package_imports_no_third_party():
    packages, _ = imported_by("import palimpsest")
    assert not packages & {"grpc", "google", "pydantic", "typer", "rich"}


def test_every_public_name_resolves():
    for name in palimpsest.__all__:
        assert getattr(palimpsest, name) is not None
    assert set(palimpsest.__all__) <= set(dir(palimpsest))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Clint"):
        _ = palimpsest.Clint  # type: ignore[attr-defined]
