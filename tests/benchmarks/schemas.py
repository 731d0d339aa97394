"""JSON Schemas to try: the JSON-Schema-Test-Suite, and kinds that people send with requests, drawn with seeds."""

import json
import random
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SDIST = "jsonschema-4.26.0"
"""The source distribution of jsonschema carries the test suite; the wheel does not."""
DRAFTS = ("draft2020-12", "draft7")

WORDS = [
    "name",
    "title",
    "city",
    "count",
    "price",
    "email",
    "tags",
    "owner",
    "status",
    "size",
    "color",
    "notes",
]


def suite(cache: Path) -> list[dict[str, Any]]:
    """The groups of the test suite, each with ``schema``, ``tests`` and ``file``; downloaded once through pip."""
    archive = cache / f"{SDIST}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "-d", str(cache), SDIST.replace("-", "==")], check=True)
    groups: list[dict[str, Any]] = []
    with tarfile.open(archive) as files:
        for member in sorted(files.getmembers(), key=lambda m: m.name):
            _, _, name = member.name.partition("/json/tests/")
            if name.endswith(".json") and name.startswith(tuple(f"{draft}/" for draft in DRAFTS)):
                file = files.extractfile(member)
                assert file is not None
                groups += [{**group, "file": name} for group in json.load(file)]
    for group in groups:
        # What a schema does not declare is read as 2020-12, ours and theirs.
        if group["file"].startswith("draft7/") and isinstance(group["schema"], dict):
            group["schema"].setdefault("$schema", "http://json-schema.org/draft-07/schema#")
    return groups


def drawn(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Schemas like those of function calls, configuration files and records."""
    rng = random.Random(seed)
    for _ in range(count):
        yield _object(rng, rng.randint(1, 3))


def _object(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(WORDS, rng.randint(1, 5))
    return {
        "type": "object",
        "properties": {name: _value(rng, depth - 1) for name in names},
        "required": [name for name in names if rng.random() < 0.8],
        "additionalProperties": False,
    }


def _value(rng: random.Random, depth: int) -> dict[str, Any]:
    leaves: list[dict[str, Any]] = [
        {"type": "string", "maxLength": rng.randint(3, 20)},
        {
            "type": "string",
            "pattern": rng.choice(["^[A-Z]{2}-[0-9]{3}$", "^[a-z]+(-[a-z]+)?$", "^(yes|no)$"]),
        },
        {"type": "string", "format": rng.choice(["date", "time", "date-time", "email", "uuid", "ipv4"])},
        {"type": "integer", "minimum": rng.randint(-50, 0), "maximum": rng.randint(1, 5000)},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "boolean"},
        {"enum": rng.sample(WORDS, 3)},
        {"const": rng.choice(WORDS)},
        {"type": ["string", "null"], "maxLength": 8},
        {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"enum": ["none", "all"]}]},
    ]
    if depth <= 0 or rng.random() < 0.6:
        return rng.choice(leaves)
    if rng.random() < 0.5:
        return _object(rng, depth)
    least = rng.randint(0, 2)
    return {
        "type": "array",
        "items": _value(rng, depth - 1),
        "minItems": least,
        "maxItems": least + rng.randint(0, 2),
    }
