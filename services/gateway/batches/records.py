"""Files and batches as they are stored: an artefact of the caller's, whose first line says what it is.

The digest is in the id, so the gateway itself keeps nothing. A stored one is immutable, as artefacts are, and exists to
those who hold it. Behind the first line are a file's own bytes, or the lines of a batch that are no requests.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import BinaryIO, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from palimpsest import json_input
from palimpsest.client.aio.artifacts import AsyncArtifacts
from palimpsest.errors import NotFound
from services.gateway.errors import ApiError, bad

_LONGEST = 64 << 10
"""Bytes of a first line; any artefact's digest may be given for one."""


class Record(BaseModel):
    """Base of both first lines; ``nonce`` tells equal files and batches apart."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    created_at: int
    nonce: str


class FileRecord(Record):
    """A file that was uploaded."""

    object: Literal["file"] = "file"
    filename: str
    purpose: str


class BatchRecord(Record):
    """A batch whose job was submitted.

    Attributes
    ----------
    operation
        Name of its job.
    lines, refused
        All lines of the input, and those that are no requests.
    """

    object: Literal["batch"] = "batch"
    input_file_id: str
    endpoint: Literal["/v1/chat/completions", "/v1/completions"]
    model: str
    operation: str
    lines: int
    refused: int
    metadata: dict[str, str] | None


R = TypeVar("R", FileRecord, BatchRecord)


class Stored(BaseModel):
    """An artefact with its record; ``begins`` is the offset of what is behind the first line, in bytes."""

    model_config = ConfigDict(frozen=True)

    id: str
    digest: str
    begins: int
    size: int
    """Bytes behind the first line."""


_MEDIA_TYPES: dict[type[Record], str] = {
    FileRecord: "application/vnd.palimpsest.http-file",
    BatchRecord: "application/vnd.palimpsest.http-batch",
}
_PREFIXES: dict[type[Record], str] = {FileRecord: "file-", BatchRecord: "batch_"}
_WORDS: dict[type[Record], tuple[str, str]] = {
    FileRecord: ("file", "files"),
    BatchRecord: ("batch", "batches"),
}


def id_of(kind: type[Record], digest: str) -> str:
    """The id of what has this digest, such as ``file-{64 hex digits}``."""
    return _PREFIXES[kind] + digest.removeprefix("sha256:")


def digest_of(kind: type[Record], id: str) -> str:
    """The digest in an id; empty where it is no id of this kind."""
    prefix = _PREFIXES[kind]
    digits = id.removeprefix(prefix)
    known = id.startswith(prefix) and len(digits) == 64 and set(digits) <= set("0123456789abcdef")
    return f"sha256:{digits}" if known else ""


def no_such(kind: type[Record], id: str) -> ApiError:
    """The 404 for an id that is unknown, or another caller's."""
    one, many = _WORDS[kind]
    message = f"You have no {one} {id[:100]!r}; GET /v1/{many} lists those that you have."
    return ApiError(404, message, code=f"{one}_not_found", param=f"{one}_id")


def first_line(record: Record) -> bytes:
    """What an artefact begins with."""
    return record.model_dump_json().encode() + b"\n"


async def save(room: AsyncArtifacts, kind: type[Record], file: BinaryIO) -> str:
    """Store a file that begins with its record; gives the id."""
    file.seek(0)
    stored = await room.upload(file, media_type=_MEDIA_TYPES[kind])
    return id_of(kind, stored.digest)


async def load(room: AsyncArtifacts, kind: type[R], id: str) -> tuple[R, Stored]:
    """What has an id.

    Raises
    ------
    ApiError
        404: the caller has none.
    """
    digest = digest_of(kind, id)
    if not digest:
        raise no_such(kind, id)
    try:
        found = await room.get_artifact(digest=digest)
        head = bytearray()
        async with room.read_artifact(digest=digest, limit=_LONGEST) as stream:
            async for part in stream:
                head += part.data
        line, end, _ = bytes(head).partition(b"\n")
        record = kind.model_validate(json_input.decode(line, max_bytes=_LONGEST))
    except (NotFound, json_input.InvalidJson, ValidationError):
        raise no_such(kind, id) from None
    begins = len(line) + len(end)
    return record, Stored(id=id, digest=digest, begins=begins, size=found.size_bytes - begins)


async def ids_of(room: AsyncArtifacts, kind: type[Record]) -> list[str]:
    """Ids of the caller's, newest first."""
    listing = await room.list_artifacts(page_size=1000)
    return [id_of(kind, each.digest) async for each in listing if each.media_type == _MEDIA_TYPES[kind]]


async def page_of(
    room: AsyncArtifacts, kind: type[R], ids: Sequence[str], after: str | None, limit: int
) -> tuple[list[tuple[R, Stored]], bool]:
    """So many of what has these ids, and whether there are more; what was deleted meanwhile is left out.

    Parameters
    ----------
    room
        Of the caller.
    kind, ids
        As :func:`ids_of` takes and gives them.
    after
        The id before the page; None: from the first.
    limit
        Of the page.

    Raises
    ------
    ApiError
        400: ``after`` is none of them.
    """
    if after is not None:
        if after not in ids:
            raise bad("after", f"after is {after[:100]!r}, which is not in the list.")
        ids = ids[ids.index(after) + 1 :]
    found: list[tuple[R, Stored]] = []
    for at, id in enumerate(ids):
        if len(found) == limit:
            return found, at < len(ids)
        try:
            found.append(await load(room, kind, id))
        except ApiError as error:
            if error.status != 404:
                raise
    return found, False


async def bytes_of(room: AsyncArtifacts, digest: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
    """An artefact's bytes from an offset on, in parts of at most 1 MiB."""
    async with room.read_artifact(digest=digest, offset=offset) as stream:
        async for part in stream:
            yield part.data


async def lines_of(room: AsyncArtifacts, digest: str) -> AsyncGenerator[bytes, None]:
    """The lines of an artefact that ends with a whole one; one line is in memory at a time, and a part."""
    rest = b""
    async with aclosing(bytes_of(room, digest)) as parts:
        async for part in parts:
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                yield line
