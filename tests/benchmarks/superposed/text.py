"""Texts for drafts: a corpus for n-grams from what every installation documents, and prefixes it does not hold."""

import ast
import sysconfig
from email.message import Message
from importlib.metadata import distributions
from pathlib import Path
from pydoc_data.topics import topics
from typing import cast

import numpy as np

from palimpsest.ngrams import NgramStore, build_store

PREFIX, TOKENS = 15, 10
"""Tokens of a prefix and of a draft: the paper's."""

_LIBRARY = Path(sysconfig.get_paths()["stdlib"])
_PACKAGES = Path(sysconfig.get_paths()["purelib"])
_DOCUMENTED = (
    "numpy",
    "torch/nn",
    "torch/optim",
    "torch/distributions",
    "transformers/generation",
    "redis",
    "fsspec",
)


def _held(number: int) -> bool:
    """Every fourth document is kept for prefixes."""
    return number % 4 == 1


def _descriptions() -> list[str]:
    """What installed packages say of themselves, by name."""
    found = {}
    for package in distributions():
        body = cast("Message", package.metadata).get_payload()
        text = str(body or package.metadata["Description"] or "")
        if len(text) > 2000:
            found[package.metadata["Name"].lower()] = text
    return [found[name] for name in sorted(found)]


def _docstrings() -> list[str]:
    """Docstrings of the standard library and of some packages, one document a module."""
    folders = [_LIBRARY, *(_PACKAGES / name for name in _DOCUMENTED)]
    found = []
    for folder in folders:
        for path in sorted(folder.glob("*.py") if folder == _LIBRARY else folder.rglob("*.py")):
            try:
                tree = ast.parse(path.read_text())
            except (SyntaxError, ValueError, UnicodeDecodeError):
                continue
            nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
            text = "\n\n".join(doc for n in nodes if (doc := ast.get_docstring(n)))
            if text:
                found.append(text)
    return found


def documents(held: bool) -> list[str]:
    """The manual's topics and package descriptions, those held back or the others; all docstrings beside the others."""
    manual = [topics[name] for name in sorted(topics)]
    found = [text for group in (manual, _descriptions()) for n, text in enumerate(group) if _held(n) == held]
    return found if held else [*found, *_docstrings()]


def prefixes(tokenizer, count: int, start: int = 0) -> tuple[list[list[int]], list[list[int]]]:
    """Prefixes from held-back documents, spread over them, and how each really goes on."""
    found = []
    for text in documents(held=True):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        step = max(PREFIX + TOKENS, len(ids) // 24)
        found += [ids[at : at + PREFIX + TOKENS] for at in range(47, len(ids) - PREFIX - TOKENS, step)]
    chosen = [found[int(n)] for n in np.linspace(start, len(found) - 1, count)]
    return [ids[:PREFIX] for ids in chosen], [ids[PREFIX:] for ids in chosen]


def corpus_ids(tokenizer) -> list[list[int]]:
    """Token ids of the documents n-grams are counted in."""
    return tokenizer(documents(held=False), add_special_tokens=False).input_ids


def build(path: Path, ids: list[list[int]], vocab_size: int) -> NgramStore:
    """A store of them."""
    build_store(
        (np.asarray(one, dtype=np.int32) for one in ids), path, tokenizer="bench", vocab_size=vocab_size
    )
    return NgramStore.open(path)
