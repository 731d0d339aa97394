"""Names are the field's: docs/glossary.md has the words in use and those that were given up."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.unit.house.imports import ROOT, modules, tree

GIVEN_UP = {
    "desk": "planner, loader",
    "gated": "gate_by_coverage",
    "heat": "temperature",
    "killed": "tombstone",
    "shelf": "cache",
    "stretch": "chunk",
    "stretches": "chunks",
    "team": "thread pool",
    "warmth": "temperature",
    "wish": "pending interrupt",
    "wishes": "pending interrupts",
}
"""Words within identifiers, in lower case, and what the field says."""

CLASSES_GIVEN_UP = {
    "Arrival": "PrefixChunk",
    "Gone": "Tombstone",
    "Handle": "RequestState",
    "How": "ChunkOrigin",
    "Joining": "PrefixAssembler",
    "Killed": "Tombstone",
    "Neighbour": "PeerClient",
    "Past": "ExternalPrefix",
    "PastReady": "PrefixReady",
    "Rows": "SequenceInput",
    "Running": "SequenceState",
}
"""Whole names of classes."""


def words(identifier: str) -> list[str]:
    """Lower-case words of a snake_case, camelCase or CapWords name."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", identifier)]


def defined(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Names that a module introduces: definitions, parameters, variables, attributes."""
    for child in ast.walk(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child.name, child.lineno
        elif isinstance(child, ast.arg):
            yield child.arg, child.lineno
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id, child.lineno
        elif isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store):
            yield child.attr, child.lineno


def test_words_that_were_given_up_are_in_no_name():
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}: {GIVEN_UP[word]}"
        for path in modules().values()
        for name, line in defined(tree(path))
        for word in words(name)
        if word in GIVEN_UP and (word != "gated" or "lm" not in path.parts)  # a gated MLP is called that
    ]
    assert not found, "\n" + "\n".join(sorted(set(found)))


def test_classes_that_were_renamed_do_not_come_back():
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {CLASSES_GIVEN_UP[node.name]}"
        for path in modules().values()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and node.name in CLASSES_GIVEN_UP
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("word", sorted(GIVEN_UP))
def test_the_glossary_says_what_to_write_instead(word):
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    assert re.search(
        rf"\b{word.removesuffix('es')}", glossary.partition("## Words we do not use")[2], re.IGNORECASE
    )


def test_names_fall_into_words():
    assert words("PeerHTTPClient_warmth2") == ["peer", "http", "client", "warmth", "2"]
