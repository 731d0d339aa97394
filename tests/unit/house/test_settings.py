"""`palimpsest config show` knows every variable that is read or set anywhere."""

import ast
import importlib
import re
import subprocess

import pytest
import typer.main
from pydantic_settings import BaseSettings

from palimpsest.cli import app
from palimpsest.cli.config import described
from palimpsest.settings import ALL_SETTINGS
from tests.unit.house.imports import ROOT, modules, tree

VARIABLE = re.compile(r"(?<![\w$])\$?\{?(PALIMPSEST_[A-Z0-9_]*[A-Z0-9])(?![\w*])")
SHOWN = {row["variable"] for row in described({})}

TESTS = {
    "PALIMPSEST_COMPOSE_TESTS": "set by deploy/test-compose.sh for its own runs",
    "PALIMPSEST_TEST_FILES": "read by tests/integration",
    "PALIMPSEST_TEST_GATEWAY": "read by tests/integration",
    "PALIMPSEST_TEST_PROJECT": "read by tests/compose",
    "PALIMPSEST_TEST_SERVER": "read by tests/integration",
    "PALIMPSEST_TEST_TOKENS": "callers of tests/compose, set by deploy/test-compose.sh",
    "PALIMPSEST_TEST_TOKEN": "read by tests/integration",
}


def compose_variables() -> set[str]:
    """What compose.yaml fills in from the environment of ``docker compose``: read by no process of ours."""
    return set(re.findall(r"\$\{(PALIMPSEST_\w+)", (ROOT / "compose.yaml").read_text()))


def mentioned() -> dict[str, set[str]]:
    """Every variable's name in code, deployment files and pages, with the files."""
    pages = [
        page.name for page in ROOT.glob("*.md") if page.name != "CHANGELOG.md"
    ]  # which has the old names
    places = ["shared", "services", "deploy", "docs", ".ci", "compose.yaml", *pages]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, set[str]] = {}
    for line in listed.stdout.splitlines():
        path = ROOT / line
        if path.is_file() and path.suffix not in {".pyi", ".json"}:
            for name in VARIABLE.findall(path.read_text()):
                found.setdefault(name, set()).add(line)
    return found


def test_every_variable_that_is_mentioned_is_shown():
    found = mentioned()
    assert len(found) > 40
    own = compose_variables() | set(TESTS)
    missing = {name: sorted(files) for name, files in found.items() if name not in SHOWN | own}
    assert not missing, f"no setting, and none of compose.yaml's: {missing}"


def test_every_class_of_settings_is_shown():
    classes = set()
    for module, path in modules().items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and any("BaseSettings" in ast.unparse(b) for b in node.bases):
                classes.add(getattr(importlib.import_module(module), node.name))
    assert all(issubclass(found, BaseSettings) for found in classes)
    assert classes == set(ALL_SETTINGS), "add it to ALL_SETTINGS in palimpsest/settings/__init__.py"


def test_no_variable_is_set_by_two_classes():
    names = [row["variable"] for row in described({})]
    assert len(names) == len(set(names))


def test_the_command_reads_only_variables_that_are_shown():
    def parameters(command):
        yield from command.params
        for child in getattr(command, "commands", {}).values():
            yield from parameters(child)

    read = {p.envvar for p in parameters(typer.main.get_command(app)) if p.envvar}
    assert {"PALIMPSEST_SERVER", "PALIMPSEST_TOKEN", "PALIMPSEST_TLS", "PALIMPSEST_MODEL"} <= read
    assert read <= SHOWN


def test_every_setting_is_explained_in_sentences():
    for row in described({}):
        assert row["description"].endswith("."), row["variable"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PALIMPSEST_CODEC_CHUNK_BYTES", "4096"),
        ("PALIMPSEST_PEERS", "codec=codec:7600"),
        ("PALIMPSEST_HANDLER_MODULES", "a.tasks,b.tasks"),
        ("PALIMPSEST_SERVER", "h:1"),
    ],
)
def test_a_setting_of_any_reader_is_shown_with_its_origin(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    (row,) = [row for row in described({variable: value}) if row["variable"] == variable]
    assert str(row["value"]) == value
    assert row["origin"] == "environment"


def test_tokens_are_masked(monkeypatch):
    monkeypatch.setenv("PALIMPSEST_TOKEN", "hunter2")
    assert "hunter2" not in str(described({}))
