"""The lines of a batch's input: what one may contain, and the request it makes."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palimpsest import json_input
from palimpsest.engine import Hosted, Request
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.lm import Sampling, encode_chat, encode_text
from palimpsest.lm.constraints.forms import Form
from services.decoding.constraints import bad_word_ids

LARGEST_LINE = 16 << 20
"""Maximum length of a line, in bytes."""


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Structured(BaseModel):
    """What the text of a line must be: one of the fields."""

    model_config = ConfigDict(extra="forbid", strict=True)

    json_schema: dict[str, Any] | bool | str | None = None
    regex: str | None = None
    grammar: str | None = None
    choice: list[str] | None = Field(None, min_length=1, max_length=1024)

    def form(self) -> Form:
        """The form.

        Raises
        ------
        InvalidArgument
            BATCH_LINE_INVALID: not exactly one field is set.
        """
        given = {name: value for name, value in self if value is not None}
        if len(given) != 1:
            raise _invalid("structured has exactly one of json_schema, regex, grammar and choice.")
        [(kind, value)] = given.items()
        if kind == "json_schema" and not isinstance(value, str):
            value = json.dumps(value)
        return Form(kind, tuple(value) if kind == "choice" else (value,))  # type: ignore[arg-type]


class Line(BaseModel):
    """The fields of a line; what a line leaves out comes from the request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str | int | None = None
    custom_id: str | int | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(None, min_length=1, max_length=1000)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=100)
    top_k: int | None = Field(None, ge=0, le=10_000_000)
    top_p: float | None = Field(None, ge=1e-9, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=0, lt=1 << 64)
    n: int | None = Field(None, ge=1, le=64)
    stop: str | list[str] | None = None
    logprobs: int | None = Field(None, ge=-1, le=64)
    repetition_penalty: float | None = Field(None, ge=1e-6, le=1e6)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(None, max_length=1024)
    min_tokens: int | None = Field(None, ge=0, le=1_000_000)
    stop_token_ids: list[Annotated[int, Field(ge=0, lt=1 << 32)]] | None = Field(None, max_length=64)
    bad_words: list[Annotated[str, Field(max_length=256)]] | None = Field(None, max_length=256)
    structured: Structured | None = None


_SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file without their ends, blank ones left out; a line over the limit is cut one byte past it."""
    while line := file.readline(LARGEST_LINE + 1):
        if not line.endswith(b"\n"):
            while (rest := file.readline(LARGEST_LINE)) and not rest.endswith(b"\n"):
                pass
        if line.strip():
            yield line.rstrip(b"\r\n")


def line_seed(salt: str, index: int) -> int:
    """The seed of a line without one: the same in every run of the same batch."""
    return int.from_bytes(hashlib.sha256(f"{salt}/{index}".encode()).digest()[:8], "big") >> 1


def parse_line(
    line: bytes, defaults: Request, seed: int, hosted: Hosted
) -> tuple[dict[str, object], Request]:
    """Parse one line into its names, as :func:`names_of` gives them, and its request.

    Compiles its grammar, if it has one that is new.

    Raises
    ------
    InvalidArgument
        BATCH_LINE_INVALID, or the reason for which the prompt cannot be tokenized or the form not be honoured.
    """
    try:
        given = Line.model_validate(json_input.decode(line, max_bytes=LARGEST_LINE))
    except json_input.InvalidJson as error:
        raise _invalid(f"The line is not usable JSON: {error}.") from None
    except ValidationError as error:
        problems = "; ".join(f"{_path(e['loc'])}: {e['msg']}" for e in error.errors()[:5])
        raise _invalid(f"The line is not a valid request: {problems}") from None
    if given.id is not None and given.custom_id is not None:
        raise _invalid("A line has an id or a custom_id, not both.")
    if (given.prompt is None) == (given.messages is None):
        raise _invalid("A line needs either a prompt or messages, not both.")
    stop = [given.stop] if isinstance(given.stop, str) else given.stop
    if stop is not None and (len(stop) > 16 or any(len(s) > 256 for s in stop)):
        raise _invalid("A line has at most 16 stop strings of at most 256 characters.")
    tokenizer = hosted.tokenizer
    if given.messages is not None:
        ids = encode_chat(tokenizer, [m.model_dump() for m in given.messages])
    else:
        ids = encode_text(tokenizer, given.prompt or "")
    logprobs = defaults.logprobs if given.logprobs is None else given.logprobs
    request = replace(
        defaults,
        ids=ids,
        sampling=_sampling_of(given, defaults, seed),
        n=given.n or defaults.n,
        max_tokens=given.max_tokens or defaults.max_tokens,
        stop=tuple(defaults.stop if stop is None else stop),
        logprobs=None if logprobs is None or logprobs < 0 else logprobs,
    )
    return _names(given.id, given.custom_id), _constrained(request, given, hosted)


def _sampling_of(given: Line, defaults: Request, seed: int) -> Sampling:
    own = {name: getattr(given, name) for name in _SAMPLING if getattr(given, name) is not None}
    if given.logit_bias is not None:
        if not all(token.isascii() and token.isdecimal() for token in given.logit_bias):
            raise _invalid("The keys of logit_bias are token ids.")
        own["logit_bias"] = tuple(sorted((int(token[:20]), bias) for token, bias in given.logit_bias.items()))
    return replace(defaults.sampling, **{"seed": seed, **own})


def _constrained(request: Request, given: Line, hosted: Hosted) -> Request:
    own: dict[str, Any] = {}
    if given.min_tokens is not None:
        own["min_tokens"] = given.min_tokens
    if given.stop_token_ids is not None:
        own["stop_ids"] = frozenset(given.stop_token_ids)
    if given.bad_words is not None:
        own["bad_words"] = bad_word_ids(hosted.tokenizer, given.bad_words)
    if given.structured is not None:
        own["grammar"] = hosted.grammars.compile(given.structured.form())
    return replace(request, **own)


def _invalid(problem: str) -> InvalidArgument:
    return InvalidArgument(Reason.BATCH_LINE_INVALID, problem)


def names_of(line: bytes) -> dict[str, object]:
    """What the result of an invalid line calls it: ``id``, null if it has none; and ``custom_id`` if it used that."""
    try:
        value = json_input.decode(line, max_bytes=LARGEST_LINE)
    except json_input.InvalidJson:
        return _names(None, None)
    given = [value.get(key) if isinstance(value, dict) else None for key in ("id", "custom_id")]
    usable = [n if isinstance(n, str | int) and not isinstance(n, bool) else None for n in given]
    return _names(*usable)


def _names(id: str | int | None, custom_id: str | int | None) -> dict[str, object]:
    return (
        {"id": id} if custom_id is None else {"id": custom_id if id is None else id, "custom_id": custom_id}
    )


def _path(parts: tuple[int | str, ...]) -> str:
    """Where in a line something is wrong; the parts may be the caller's own keys, of any length."""
    return ".".join(str(part)[:100] for part in parts) or "line"
