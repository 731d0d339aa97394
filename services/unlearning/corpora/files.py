"""A data set as a folder: JSON Lines files, and a manifest with their digests.

::

    MANIFEST.json                   rows, words and SHA-256 of each file; licence; where it comes from
    docs.jsonl                      Document: every split
    knowmem_{split}.jsonl           Question: forget, retain1, retain2, icl
    verbmem_{split}.jsonl           Verbatim: forget, retain2
    privleak_{split}.jsonl          Excerpt: forget, holdout, retain2
    scal/fold_{k}.jsonl             Document: the first k folds of the forget set
    sust/fold_{k}.jsonl             Document: the k-th fold alone
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palimpsest import json_input
from palimpsest.disk import room_for
from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora.corpus import ASKED, RECITED, TESTED, Corpus
from services.unlearning.corpora.records import Document, Excerpt, Question, Row, Verbatim

MANIFEST = "MANIFEST.json"
LARGEST_LINE = 16 << 20
"""Most bytes of one line."""
_LARGEST_MANIFEST = 1 << 20
_Found = TypeVar("_Found", bound=Row)


class _FileEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    rows: int
    words: int
    sha256: str


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: int = Field(ge=1, le=1)
    licence: str
    source: dict[str, Any]
    files: dict[str, _FileEntry]


def write_corpus(corpus: Corpus, folder: Path) -> None:
    """Write a data set; the manifest comes last, so that what was cut off is not taken for a data set.

    Parameters
    ----------
    corpus
        What to write.
    folder
        Is created. Files of another data set in it are replaced where the names are the same.

    Raises
    ------
    ResourceExhausted
        DISK_FULL.
    """
    with room_for(f"the data set in {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        files = {}
        for name, rows in _files(corpus).items():
            data = encode_rows(rows)
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
            files[name] = {
                "rows": len(rows),
                "words": sum(len(text.split()) for row in rows for text in _texts(row)),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        body = {"format": 1, "licence": corpus.licence, "source": dict(corpus.source), "files": files}
        (folder / MANIFEST).write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


def read_corpus(folder: Path) -> Corpus:
    """Read a data set and check it against its manifest.

    Raises
    ------
    InvalidArgument
        DATASET_INVALID: a file is missing, is not what the manifest says, or the files do not fit each other.
        DATASET_LINE_INVALID: a line is not what its file holds; the message names it.
    """
    try:
        manifest = _Manifest.model_validate(json_input.read(folder / MANIFEST, max_bytes=_LARGEST_MANIFEST))
    except FileNotFoundError:
        raise _unusable(f"{MANIFEST} is missing.") from None
    except (json_input.InvalidJson, ValidationError) as error:
        raise _unusable(f"{MANIFEST} cannot be used: {problems(error, _Manifest)}.") from None

    def rows(name: str, kind: type[_Found]) -> tuple[_Found, ...]:
        return _checked(folder, name, manifest, kind) if name in manifest.files else ()

    ids: list[tuple[str, ...]] = []
    while (name := f"sust/fold_{len(ids) + 1}.jsonl") in manifest.files:
        ids.append(tuple(row.id for row in rows(name, Document)))
    return Corpus(
        documents=rows("docs.jsonl", Document),
        questions={split: rows(f"knowmem_{split}.jsonl", Question) for split in ASKED},
        verbatim={split: rows(f"verbmem_{split}.jsonl", Verbatim) for split in RECITED},
        excerpts={split: rows(f"privleak_{split}.jsonl", Excerpt) for split in TESTED},
        folds=tuple(ids),
        source=manifest.source,
        licence=manifest.licence,
    )


def encode_rows(rows: Iterable[Row]) -> bytes:
    """Rows as JSON Lines in UTF-8, keys in the order of their class."""
    return b"".join((json.dumps(row.model_dump(), ensure_ascii=False) + "\n").encode("utf-8") for row in rows)


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
        DATASET_LINE_INVALID: the first line that is not such a row, by number. Its text is not repeated, for it may be
        what is to be forgotten.
    """
    found: list[_Found] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(kind.model_validate(json_input.decode(line, max_bytes=LARGEST_LINE)))
        except (json_input.InvalidJson, ValidationError) as error:
            raise bad_line(what, number, problems(error, kind)) from None
    return tuple(found)


def bad_line(what: str, number: int, problem: str) -> InvalidArgument:
    """Build the error for a line that cannot be used."""
    return InvalidArgument(
        Reason.DATASET_LINE_INVALID,
        f"Line {number} of {what} cannot be used: {problem}. Correct the line, or leave it out.",
        metadata={"file": what, "line": number},
    )


def problems(error: json_input.InvalidJson | ValidationError, kind: type[BaseModel]) -> str:
    """What is wrong, in words of ours alone: neither values nor keys, for a key may be a text as well as a value is.

    Parameters
    ----------
    error
        Of a line.
    kind
        What the line should have been: its fields are named.
    """
    if isinstance(error, json_input.InvalidJson):
        return error.problem
    found = error.errors(include_input=False, include_url=False, include_context=False)[:5]
    return "; ".join(f"{_place(each['loc'], kind)}: {each['msg']}" for each in found)


def _place(loc: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """Where in a line something is wrong: a field, and positions in its lists."""
    if not loc:
        return "the row"
    field, *rest = loc
    if field not in kind.model_fields:
        return f"a key other than {', '.join(kind.model_fields)}"
    return ".".join([str(field), *(str(part) for part in rest if isinstance(part, int))])


def _files(corpus: Corpus) -> dict[str, Sequence[Row]]:
    files: dict[str, Sequence[Row]] = {"docs.jsonl": corpus.documents}
    files |= {f"knowmem_{split}.jsonl": rows for split, rows in corpus.questions.items()}
    files |= {f"verbmem_{split}.jsonl": rows for split, rows in corpus.verbatim.items()}
    files |= {f"privleak_{split}.jsonl": rows for split, rows in corpus.excerpts.items()}
    for fold in range(1, len(corpus.folds) + 1):
        files[f"scal/fold_{fold}.jsonl"] = corpus.nested(fold)
        files[f"sust/fold_{fold}.jsonl"] = corpus.disjoint(fold)
    return files


def _texts(row: Row) -> list[str]:
    return [
        getattr(row, name) for name in ("text", "question", "answer", "prompt", "gt") if hasattr(row, name)
    ]


def _checked(folder: Path, name: str, manifest: _Manifest, kind: type[_Found]) -> tuple[_Found, ...]:
    entry = manifest.files[name]
    try:
        data = (folder / name).read_bytes()
    except FileNotFoundError:
        raise _unusable(f"{name} is missing.") from None
    found = decode_rows(data, kind, name)
    if hashlib.sha256(data).hexdigest() != entry.sha256 or len(found) != entry.rows:
        raise _unusable(f"{name} is not the file that {MANIFEST} describes.")
    return found


def _unusable(problem: str) -> InvalidArgument:
    return InvalidArgument(
        Reason.DATASET_INVALID, f"The folder is not a whole data set: {problem} Write the data set again."
    )
