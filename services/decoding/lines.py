"""The lines of a batch's input: what one may contain, and the call that it makes."""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palimpsest import json_input
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason

LARGEST_LINE = 16 << 20
"""Maximum length of a line, in bytes."""

LARGEST_REQUEST = 4_000_000
"""Maximum size of the request that a line makes, in bytes: what a message may have."""


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Line(BaseModel):
    """The fields of a line; what a line leaves out comes from the request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str | int | None = None
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


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file without their ends; a line over the limit is cut one byte past it."""
    while line := file.readline(LARGEST_LINE + 1):
        if not line.endswith(b"\n"):
            while (rest := file.readline(LARGEST_LINE)) and not rest.endswith(b"\n"):
                pass
        yield line.rstrip(b"\r\n")


def line_seed(salt: str, index: int) -> int:
    """The seed of a line without one: the same in every run of the same batch."""
    return int.from_bytes(hashlib.sha256(f"{salt}/{index}".encode()).digest()[:8], "big") >> 1


def parse_line(line: bytes, defaults: pb.GenerateRequest, seed: int) -> tuple[object, pb.GenerateRequest]:
    """Parse one line into its id and its request.

    Parameters
    ----------
    line
        One JSON object.
    defaults
        For what the line leaves out.
    seed
        For a line without one.

    Raises
    ------
    InvalidArgument
        BATCH_LINE_INVALID.
    """
    try:
        given = Line.model_validate(json_input.decode(line, max_bytes=LARGEST_LINE))
    except json_input.InvalidJson as error:
        raise InvalidArgument(Reason.BATCH_LINE_INVALID, f"The line is not usable JSON: {error}.") from None
    except ValidationError as error:
        problems = "; ".join(f"{_path(e['loc'])}: {e['msg']}" for e in error.errors()[:5])
        raise InvalidArgument(
            Reason.BATCH_LINE_INVALID, f"The line is not a valid request: {problems}"
        ) from None
    if (given.prompt is None) == (given.messages is None):
        raise InvalidArgument(
            Reason.BATCH_LINE_INVALID, "A line needs either a prompt or messages, not both."
        )
    stop = [given.stop] if isinstance(given.stop, str) else given.stop
    if stop is not None and (len(stop) > 16 or any(len(s) > 256 for s in stop)):
        raise InvalidArgument(
            Reason.BATCH_LINE_INVALID, "A line has at most 16 stop strings of at most 256 characters."
        )
    request = pb.GenerateRequest()
    request.CopyFrom(defaults)
    if given.messages is not None:
        request.chat.messages.extend(pb.ChatMessage(**message.model_dump()) for message in given.messages)
    else:
        request.prompt = given.prompt or ""
    request.sampling.seed = seed
    for name in ("temperature", "top_k", "top_p", "min_p", "seed"):
        if (value := getattr(given, name)) is not None:
            setattr(request.sampling, name, value)
    for name in ("n", "max_tokens", "logprobs"):
        if (value := getattr(given, name)) is not None:
            setattr(request, name, value)
    if stop is not None:
        request.stop[:] = stop
    if (size := request.ByteSize()) > LARGEST_REQUEST:
        raise InvalidArgument(
            Reason.BATCH_LINE_INVALID,
            f"The line makes a request of {size} bytes; one has {LARGEST_REQUEST} at most. Shorten its text.",
        )
    return given.id, request


def name_of(line: bytes) -> object:
    """The id of an invalid line, if it has one."""
    try:
        value = json_input.decode(line, max_bytes=LARGEST_LINE)
    except json_input.InvalidJson:
        return None
    name = value.get("id") if isinstance(value, dict) else None
    return name if isinstance(name, str | int) and not isinstance(name, bool) else None


def _path(parts: tuple[int | str, ...]) -> str:
    """Where in a line something is wrong; the parts may be the caller's own keys, of any length."""
    return ".".join(str(part)[:100] for part in parts) or "line"
