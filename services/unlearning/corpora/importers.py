"""Data sets of other projects: MUSE's JSON files and TOFU's JSON Lines.

MUSE's files are lists of texts, of ``{"question", "answer"}`` or of ``{"prompt", "gt"}``, one file a split. TOFU's
have one object a line, whatever their ending says. What a file may hold beside that is refused.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palimpsest import json_input
from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora.files import bad_line, decode_rows, problems
from services.unlearning.corpora.records import AuthorPair, Document, Question, Row, Split, Verbatim

LARGEST_FILE = 64 << 20
"""Most bytes of a MUSE file."""
_Found = TypeVar("_Found")
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{},\n]', re.DOTALL)


class _NoText(Exception):
    """An item of a list of texts is none."""


class _Pair(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    question: str
    answer: str


class _Cut(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str
    gt: str
    rougeL_target: float | None = Field(None, strict=False)  # the target's own score, which is measured anew


class _Tofu(Row):
    question: str
    answer: str
    paraphrased_question: str = ""
    paraphrased_answer: str = ""
    perturbed_answer: tuple[str, ...] = Field((), strict=False)
    option1: str = ""
    option2: str = ""
    option3: str = ""
    option4: str = ""


def muse_documents(data: bytes, split: Split, domain: str, what: str) -> tuple[Document, ...]:
    """Import a list of texts, such as ``raw/forget.json`` and ``privleak/holdout.json``.

    Parameters
    ----------
    data
        The file, JSON in UTF-8.
    split, domain
        What the texts are for, and their genre.
    what
        Name of the file, for messages; ids are made of the split and a number.

    Raises
    ------
    InvalidArgument
        DATASET_INVALID: it is not a JSON list. DATASET_LINE_INVALID: an item is not what the file holds; the message
        names the line that it begins on.
    """

    def row(number: int, value: object) -> Document:
        text = value.get("text") if isinstance(value, dict) and set(value) == {"text"} else value
        if not isinstance(text, str) or not text.strip():
            raise _NoText
        return Document(id=f"{split}-{number:05}", domain=domain, split=split, text=text)

    return _items(data, what, Document, row)


def muse_questions(data: bytes, split: Split, what: str) -> tuple[Question, ...]:
    """Import a list of ``{"question", "answer"}``, such as ``knowmem/forget_qa.json``; see :func:`muse_documents`."""

    def row(number: int, value: object) -> Question:
        pair = _Pair.model_validate(value)
        return Question(id=f"{split}-q{number:05}", question=pair.question, answer=pair.answer)

    return _items(data, what, _Pair, row)


def muse_verbatim(data: bytes, split: Split, what: str) -> tuple[Verbatim, ...]:
    """Import a list of ``{"prompt", "gt"}``, such as ``verbmem/forget.json``; see :func:`muse_documents`."""

    def row(number: int, value: object) -> Verbatim:
        found = _Cut.model_validate(value)
        return Verbatim(id=f"{split}-v{number:05}", prompt=found.prompt, gt=found.gt)

    return _items(data, what, _Cut, row)


def tofu_pairs(data: bytes, what: str, author: int = 0) -> tuple[AuthorPair, ...]:
    """Import TOFU's JSON Lines, such as ``forget10_perturbed.json``; options of real authors are wrong answers.

    Parameters
    ----------
    data
        The file, JSON Lines in UTF-8.
    what
        Name of the file, for messages; ids are numbers.
    author
        Pairs of one author, where the file lists them one author after another: 20 in TOFU's own. 0: not known.

    Raises
    ------
    InvalidArgument
        DATASET_LINE_INVALID.
    """
    found: list[AuthorPair] = []
    for number, row in enumerate(decode_rows(data, _Tofu, what)):
        options = [each for each in (row.option1, row.option2, row.option3, row.option4) if each]
        found.append(
            AuthorPair(
                id=f"pair-{number + 1:05}",
                author=f"author-{number // author + 1:04}" if author else "",
                question=row.question,
                answer=row.answer,
                paraphrased_question=row.paraphrased_question,
                paraphrased_answer=row.paraphrased_answer,
                perturbed_answers=row.perturbed_answer
                or tuple(each for each in options if each != row.answer),
            )
        )
    return tuple(found)


def _items(
    data: bytes, what: str, kind: type[BaseModel], row: Callable[[int, Any], _Found]
) -> tuple[_Found, ...]:
    try:
        values = json_input.decode(data, max_bytes=LARGEST_FILE)
    except json_input.InvalidJson as error:
        raise _not_a_list(what, error.problem) from None
    if not isinstance(values, list):
        raise _not_a_list(what, "it is not a list")
    found: list[_Found] = []
    for number, value in enumerate(values, 1):
        try:
            found.append(row(number, value))
        except ValidationError as error:
            raise bad_line(what, _line_of(data, number), problems(error, kind)) from None
        except _NoText:
            problem = "a text is expected, and it must not be empty"
            raise bad_line(what, _line_of(data, number), problem) from None
    return tuple(found)


def _line_of(data: bytes, item: int) -> int:
    """The line on which an item of a list begins, both counted from 1."""
    depth = commas = 0
    start = data.index(b"[") + 1
    for match in _TOKENS.finditer(data):
        if commas == item - 1 and depth >= 1:
            break
        token = match[0]
        depth += token in (b"[", b"{")
        depth -= token in (b"]", b"}")
        if token == b"," and depth == 1:
            commas += 1
            start = match.end()
    while data[start : start + 1].isspace():
        start += 1
    return data.count(b"\n", 0, start) + 1


def _not_a_list(what: str, problem: str) -> InvalidArgument:
    return InvalidArgument(
        Reason.DATASET_INVALID,
        f"{what} cannot be imported: {problem}. It must be a JSON list, as MUSE's files are.",
        metadata={"file": what},
    )
