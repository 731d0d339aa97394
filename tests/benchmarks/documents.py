"""Texts every installation has, in three domains, split so that evaluation never sees what calibration saw."""

import importlib.metadata
import sysconfig
from email.message import Message
from pathlib import Path
from pydoc_data.topics import topics
from typing import cast

_LIBRARY = Path(sysconfig.get_paths()["stdlib"])
_CODE_SEEN = [
    "threading",
    "subprocess",
    "typing",
    "datetime",
    "pickle",
    "difflib",
    "zipfile",
    "ast",
    "socket",
    "doctest",
    "logging/__init__",
    "shutil",
    "textwrap",
    "unittest/case",
    "json/decoder",
    "asyncio/tasks",
    "email/message",
    "http/client",
]
_CODE_HELD = ["argparse", "tarfile", "inspect"]
_READMES_SEEN = [
    "tqdm",
    "tabulate",
    "regex",
    "wrapt",
    "torch",
    "packaging",
    "fsspec",
    "filelock",
    "hypothesis",
    "numba",
    "redis",
]
_READMES_HELD = ["yarl", "rich", "pydantic", "charset_normalizer", "aiohttp", "multidict"]


def calibration_documents(tokenizer, tokens: int = 1024) -> list[list[int]]:
    """About fifty documents: half of the manual's topics, library modules, package descriptions."""
    found = _cut(_ids(tokenizer, _manual(0))[2000:], tokens, 14)
    for name in _CODE_SEEN:
        found += _cut(_ids(tokenizer, (_LIBRARY / f"{name}.py").read_text())[300:], tokens, 1)
    for name in _READMES_SEEN:
        found += _cut(_ids(tokenizer, _readme(name))[100:], tokens, 2)
    return found


def evaluation_documents(tokenizer, tokens: int) -> list[tuple[str, list[int]]]:
    """Ten documents with their domains, none of them, nor their neighbours, seen in calibration."""
    manual = _ids(tokenizer, _manual(1))
    found = [("manual", manual[at : at + tokens]) for at in (3000, 12_000, 20_000, 36_000)]
    for name in _CODE_HELD:
        found.append(("code", _ids(tokenizer, (_LIBRARY / f"{name}.py").read_text())[500 : 500 + tokens]))
    readmes = [_ids(tokenizer, _readme(name))[300 : 300 + tokens] for name in _READMES_HELD]
    found += [("readme", ids) for ids in readmes if len(ids) == tokens][:3]
    assert all(len(ids) == tokens for _, ids in found)
    assert len(found) >= 10, "too few packages with long descriptions are installed here"
    return found


def _ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False).input_ids


def _cut(ids: list[int], tokens: int, most: int) -> list[list[int]]:
    return [ids[at : at + tokens] for at in range(0, len(ids) - tokens, tokens)][:most]


def _manual(half: int) -> str:
    return "".join(topics[name] for name in sorted(topics)[half::2])


def _readme(name: str) -> str:
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    return str(cast("Message", metadata).get_payload() or metadata["Description"] or "")
