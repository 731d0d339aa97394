"""A fact set as a folder of JSON Lines files.

::

    train.jsonl         Text: training data of FineTune as it is
    cases.jsonl         Case: prompts in and out of the trained words
    neighbours.jsonl    Case: the same prompts about people of whom no text tells anything
    facts.jsonl         Fact: what the texts tell
    MANIFEST.json       generator, version, seed, and digests; written last
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from palimpsest import json_input
from palimpsest.disk import room_for
from palimpsest.errors import InvalidArgument, Reason
from services.grafting.facts.building import VERSION, FactSet
from services.grafting.facts.records import Row

MANIFEST = "MANIFEST.json"
LARGEST_LINE = 1 << 20
"""Most bytes of one line."""
_Found = TypeVar("_Found", bound=BaseModel)


def write_facts(facts: FactSet, folder: Path) -> None:
    """Write a fact set.

    Parameters
    ----------
    facts
        What to write.
    folder
        Is created. Files of another set in it are replaced.

    Raises
    ------
    ResourceExhausted
        DISK_FULL.
    """
    files = {
        "train.jsonl": encode_rows(facts.texts),
        "cases.jsonl": encode_rows(facts.cases),
        "neighbours.jsonl": encode_rows(facts.neighbours),
        "facts.jsonl": encode_rows(facts.facts),
    }
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    told = {"generator": "palimpsest facts", "version": VERSION, "seed": facts.seed, "sha256": digests}
    with room_for(f"the facts in {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        (folder / MANIFEST).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def encode_rows(rows: Iterable[Row]) -> bytes:
    """Rows as JSON Lines in UTF-8, keys in the order of their class."""
    return b"".join((json.dumps(row.model_dump(), ensure_ascii=False) + "\n").encode() for row in rows)


def decode_rows(data: bytes, kind: type[_Found], what: str) -> tuple[_Found, ...]:
    """Read JSON Lines; empty lines are skipped.

    Parameters
    ----------
    data
        UTF-8.
    kind
        What a line holds.
    what
        Name of the file, for messages.

    Raises
    ------
    InvalidArgument
        DATASET_LINE_INVALID: the first line that is not such a row, by number.
    """
    found: list[_Found] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(kind.model_validate(json_input.decode(line, max_bytes=LARGEST_LINE)))
        except json_input.InvalidJson as error:
            raise bad_line(what, number, error.problem) from None
        except ValidationError as error:
            raise bad_line(what, number, problems(error)) from None
    return tuple(found)


def bad_line(what: str, number: int, problem: str) -> InvalidArgument:
    """Build the error for a line that cannot be used."""
    return InvalidArgument(
        Reason.DATASET_LINE_INVALID,
        f"Line {number} of {what} cannot be used: {problem}. Correct the line, or leave it out.",
        metadata={"file": what, "line": number},
    )


def problems(error: ValidationError) -> str:
    """What is wrong with a row, by its fields."""
    found = error.errors(include_input=False, include_url=False, include_context=False)[:5]
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the row'}: {each['msg']}" for each in found)
