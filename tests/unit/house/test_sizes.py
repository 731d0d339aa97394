"""Folders, modules and functions that a reader can hold: the limits, and the exceptions with their reasons.

To go over a limit is to argue for it here; to come back under it is to strike the entry.
"""

import ast
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.unit.house.imports import ROOT, modules, tree

MOST_FILES = 20
MOST_LINES = 300
MOST_LONG_MODULES = 6
MOST_FUNCTION_LINES = 70
MOST_LONG_FUNCTIONS = 5

LONG_MODULES = {
    "palimpsest.engine.engine": "one class: its public methods with their reference, and the thread behind them",
}
LONG_FUNCTIONS = {
    "palimpsest.jobs.celery_app.create_app": "a table of Celery settings, each with its reason",
}

GENERATED = {"palimpsest.client.aio.rooms", "palimpsest.client.blocking.rooms"}


def functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
    """Dotted name and lines of every function, nested ones too."""
    for child in ast.iter_child_nodes(node):
        name = prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{child.name}"
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, (child.end_lineno or child.lineno) - child.lineno + 1
        yield from functions(child, name)


def test_no_folder_has_more_than_twenty_files():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).exists()]
    assert len(files) > 400
    counts = Counter(str(path.parent) for path in files if "api" not in path.parts)
    assert not {folder: count for folder, count in counts.items() if count > MOST_FILES}


def test_modules_over_three_hundred_lines_are_few_and_argued():
    lengths = {module: len(path.read_text().splitlines()) for module, path in modules().items()}
    long = {m: n for m, n in lengths.items() if n > MOST_LINES and m not in GENERATED}
    assert not {m: n for m, n in long.items() if m not in LONG_MODULES}, "cut them by meaning, or argue above"
    assert set(LONG_MODULES) == set(long), "short again; strike the entry"
    assert len(long) <= MOST_LONG_MODULES


def test_functions_over_seventy_lines_are_few_and_argued():
    found = [
        pair
        for module, path in modules().items()
        if module not in GENERATED
        for pair in functions(tree(path), module)
    ]
    assert len(found) > 2000
    long = {name: lines for name, lines in found if lines > MOST_FUNCTION_LINES}
    assert not {name: n for name, n in long.items() if name not in LONG_FUNCTIONS}, "cut them, or argue above"
    assert set(LONG_FUNCTIONS) == set(long), "short again; strike the entry"
    assert len(long) <= MOST_LONG_FUNCTIONS
