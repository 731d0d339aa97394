"""The imports of the tree, read from syntax trees: in functions and under TYPE_CHECKING as well as at the top."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SOURCES = {"palimpsest": ROOT / "shared", "services": ROOT}
"""Our two packages, and the folder that each is imported from."""


@dataclass(frozen=True)
class Import:
    """One import statement's effect: ``source`` names ``target`` at a line."""

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} -> {self.target}"


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by dotted name; a package stands for its ``__init__``. Generated messages are left out."""
    found = {}
    for package, base in SOURCES.items():
        for path in sorted((base / package).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            if "api" not in parts:
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def named(path: Path, module: str) -> Iterator[tuple[str, int]]:
    """Full dotted names that a file imports, and the line; ``from a import b`` gives ``a.b``."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], base]
                ).rstrip(".")
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno
        elif (
            # importlib.import_module("palimpsest.kv") and its like count as well
            isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] == "import_module"
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value), node.lineno


def module_of(name: str, known: Iterable[str]) -> str | None:
    """The module of ours that a dotted name lies in; None for other people's."""
    while name and not name.startswith("palimpsest.api"):
        if name in known:
            return name
        name = name.rpartition(".")[0]
    return None


@cache
def imports() -> tuple[Import, ...]:
    """Every import of one module of ours by another."""
    known = modules()
    found = set()
    for source, path in known.items():
        for name, line in named(path, source):
            target = module_of(name, known)
            if target is not None and target != source:
                found.add(Import(source, target, line))
    return tuple(sorted(found, key=lambda i: (i.source, i.line, i.target)))


def circles(arrows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Strongly connected groups of more than one node (Tarjan's algorithm)."""
    following: dict[str, set[str]] = {}
    for source, target in arrows:
        following.setdefault(source, set()).add(target)
        following.setdefault(target, set())
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(following[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == node:
                    break
            if len(group) > 1:
                groups.append(sorted(group))

    for node in sorted(following):
        if node not in index:
            visit(node)
    return groups
