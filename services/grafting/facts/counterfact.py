"""CounterFact's JSON (Meng et al., NeurIPS 2022, appendix B) as cases: edited facts with paraphrases and neighbours.

A file is a list of records, or has one record a line. Of a record these keys are read, and others are left alone:
``case_id``, ``requested_rewrite`` with ``prompt`` (a text with ``{}`` for the subject), ``subject``,
``target_new.str`` and ``target_true.str``, ``paraphrase_prompts`` and ``neighborhood_prompts``.
"""

import re
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palimpsest import json_input
from palimpsest.errors import InvalidArgument, Reason
from services.grafting.facts.files import bad_line, problems
from services.grafting.facts.records import LAST, Case, Place, Span

LARGEST_FILE = 128 << 20
"""Most bytes; the published file has 45 million."""
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{},]', re.DOTALL)


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Answer(_Row):
    text: str = Field(alias="str", min_length=1)


class _Rewrite(_Row):
    prompt: str = Field(min_length=1)
    subject: str = Field(min_length=1)
    target_new: _Answer
    target_true: _Answer


class _Record(_Row):
    case_id: int | str
    requested_rewrite: _Rewrite
    paraphrase_prompts: list[str] = []
    neighborhood_prompts: list[str] = []


def counterfact_cases(data: bytes, what: str) -> tuple[Case, ...]:
    """Import records: of each the rewrite, then its paraphrases, then its neighbours.

    The target of all is the new answer, and ``base_answer`` the true one. Neighbours are about other subjects, so that
    there the true answer stays right; they have no ``first_entity``.

    Parameters
    ----------
    data
        The file, in UTF-8.
    what
        Name of the file, for messages.

    Raises
    ------
    InvalidArgument
        DATASET_INVALID: it is neither a JSON list nor JSON Lines, or holds nothing. DATASET_LINE_INVALID: a record is
        not what it should be, has no place for its subject, has a paraphrase without its subject, or a ``case_id`` that
        came before; the message names the line that the record begins on. No record or prompt is left out.
    """
    cases: list[Case] = []
    seen: dict[str, int] = {}
    for line, value in _values(data, what):
        try:
            record = _Record.model_validate(value)
            made = list(_cases(record))
        except ValidationError as error:
            raise bad_line(what, line, problems(error)) from None
        except _Unusable as error:
            raise bad_line(what, line, str(error)) from None
        name = str(record.case_id)
        if name in seen:
            raise bad_line(what, line, f"case_id {name} is that of line {seen[name]} too")
        seen[name] = line
        cases += made
    if not cases:
        raise _invalid(what, "it holds no record")
    return tuple(cases)


class _Unusable(Exception):
    """A record that is well formed and cannot be used; the message says why."""


def _cases(record: _Record) -> Iterator[Case]:
    rewrite = record.requested_rewrite
    if rewrite.prompt.count("{}") != 1:
        raise _Unusable("requested_rewrite.prompt must have {} once, where the subject goes")
    first = rewrite.prompt.index("{}")
    prompt = rewrite.prompt.replace("{}", rewrite.subject)
    yield _case(record, "rewrite", 0, prompt, first)
    for number, text in enumerate(record.paraphrase_prompts):
        first = text.rfind(
            rewrite.subject
        )  # a paraphrase begins with other text, which may name the subject too
        if first < 0:
            raise _Unusable(f"paraphrase_prompts.{number} does not name the subject")
        yield _case(record, "paraphrase", number, text, first)
    for number, text in enumerate(record.neighborhood_prompts):
        if not text.strip():
            raise _Unusable(f"neighborhood_prompts.{number} is empty")
        yield _case(record, "neighborhood", number, text, None)


def _case(record: _Record, form: str, number: int, prompt: str, first: int | None) -> Case:
    rewrite, places = record.requested_rewrite, {"last_token": LAST}
    prompt = prompt.rstrip()  # the answer brings its own space
    if first is not None:
        span = Span(first=first, stop=first + len(rewrite.subject))
        places = {"first_entity": Place(spans=(span,)), **places}
    return Case(
        id=f"case-{record.case_id}-{form}-{number}",
        fact=str(record.case_id),
        form=form,
        prompt=prompt,
        target=f" {rewrite.target_new.text.strip()}",
        places=places,
        base_answer=f" {rewrite.target_true.text.strip()}",
    )


def _values(data: bytes, what: str) -> Iterator[tuple[int, object]]:
    """Each record with the line that it begins on, counted from 1."""
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        try:
            values = json_input.decode(data, max_bytes=LARGEST_FILE)
        except json_input.InvalidJson as error:
            raise _invalid(what, error.problem) from None
        yield from zip(_lines_of(data), values, strict=True)
        return
    if len(data) > LARGEST_FILE:
        raise _invalid(what, f"it has more than {LARGEST_FILE} bytes")
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json_input.decode(line, max_bytes=LARGEST_FILE)
        except json_input.InvalidJson as error:
            raise bad_line(what, number, error.problem) from None


def _lines_of(data: bytes) -> list[int]:
    """Lines on which the items of a list begin, counted from 1; the list is well formed."""
    lines: list[int] = []
    depth, line, counted = 0, 1, 0

    def begins(after: int) -> None:
        nonlocal line, counted
        while data[after : after + 1].isspace():
            after += 1
        if data[after : after + 1] != b"]":
            line += data.count(b"\n", counted, after)
            counted = after
            lines.append(line)

    for match in _TOKENS.finditer(data):
        token = match[0]
        if (token, depth) in ((b"[", 0), (b",", 1)):
            begins(match.end())
        depth += token in (b"[", b"{")
        depth -= token in (b"]", b"}")
    return lines


def _invalid(what: str, problem: str) -> InvalidArgument:
    return InvalidArgument(
        Reason.DATASET_INVALID,
        f"{what} cannot be imported: {problem}. It must be a list of CounterFact's records, or have one a line.",
        metadata={"file": what},
    )
