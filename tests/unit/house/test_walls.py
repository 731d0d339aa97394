"""Who may import whom, where import-linter's contracts in pyproject.toml cannot say it: forbidden by default.

A new file is guarded from its first day. Give it one of the names below only if it is a door: a module that speaks gRPC
or Celery so that the others need not.
"""

import ast
import re
from fnmatch import fnmatchcase

import pytest

from tests.unit.house.imports import module_of, modules, named, tree

WIRE = ("grpc", "grpc_health", "grpc_reflection", "grpc_status", "celery")
"""Libraries of the wire and the queue."""

DOORS = (
    "services.*.service",
    "services.*_service",
    "services.*.tasks",
    "services.*.__main__",
    "services.*.metrics",
    "services.worker",
    "palimpsest.rpc.*",
    "palimpsest.status",
    "palimpsest.client.*.connection",
    "palimpsest.client.*.streams",
    "palimpsest.client.peers",
    "palimpsest.jobs.celery_app",
    "palimpsest.jobs.hints",
)
ROOM = re.compile(r"services\.\w+")
"""A room's own ``__init__``, which mounts it."""


def is_door(module: str) -> bool:
    return any(fnmatchcase(module, door) for door in DOORS) or (
        ROOM.fullmatch(module) is not None and modules()[module].name == "__init__.py"
    )


def wire_imports(module: str) -> list[str]:
    return [
        f"{module}:{line} imports {name}"
        for name, line in named(modules()[module], module)
        if name.partition(".")[0] in WIRE
    ]


def test_domain_modules_import_neither_grpc_nor_celery():
    found = [line for module in modules() if not is_door(module) for line in wire_imports(module)]
    assert not found, "not doors (see DOORS in this file), and yet:\n  " + "\n  ".join(found)


@pytest.mark.parametrize("door", DOORS)
def test_every_kind_of_door_exists(door):
    assert any(fnmatchcase(module, door) for module in modules()), f"nothing is called {door}; drop it"


def test_servicers_are_in_doors():
    servicers = [
        f"{module}.{node.name}"
        for module, path in modules().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).endswith("Servicer") for base in node.bases)
        if not is_door(module)
    ]
    assert not servicers, f"servicers outside of service.py and *_service.py: {servicers}"


def test_modules_named_in_strings_exist():
    """Lazy imports by name break without a word when a module moves."""
    known = modules()
    missing = [
        f"{module}:{node.lineno} names {node.value}"
        for module, path in known.items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"(palimpsest|services)(\.[a-z_0-9]+)+", node.value)
        if module_of(node.value, known) in ("palimpsest", "services") and node.value != TASK_NAME
    ]
    assert not missing, missing


TASK_NAME = "palimpsest.run"
"""The Celery task's name, which is no module's."""


SERVER_SIDE = ("services.*", "palimpsest.rpc.*", "palimpsest.jobs.*", "palimpsest.telemetry.*")


@pytest.mark.parametrize("module", sorted(modules()))
def test_one_logger_on_each_side(module):
    """Server code logs through structlog; what is used without the server's packages through the standard library."""
    roots = {name.partition(".")[0] for name, _ in named(modules()[module], module)}
    if any(fnmatchcase(module, pattern) for pattern in SERVER_SIDE):
        assert "logging" not in roots or module == "palimpsest.telemetry.logs", f"{module}: use structlog"
    else:
        assert "structlog" not in roots, f"{module}: structlog comes with the extra 'server'; use logging"
