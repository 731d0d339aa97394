"""``/v1/files``: inputs of batches, each an artefact, and outputs of batches, made of their jobs' results when read."""

import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, BinaryIO, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from palimpsest.client.aio.concurrency import off_loop
from palimpsest.errors import NotFound
from services.gateway.backend import Rooms
from services.gateway.batches import records
from services.gateway.batches.outputs import Batch, Kind, batch_of, content_of, file_id_of, named, shown
from services.gateway.batches.records import BatchRecord, FileRecord, Stored, first_line, no_such
from services.gateway.batches.uploads import upload_of
from services.gateway.calls import rooms_of, settings_of
from services.gateway.connections import while_connected
from services.gateway.errors import ApiError, bad, unsupported

Json = dict[str, Any]
_MOST = 10_000


async def create_file(request: Request) -> Response:
    """``POST /v1/files``."""
    rooms = rooms_of(request)
    await rooms.artifacts.list_artifacts(page_size=1)  # who may not is told so before sending it all
    async with upload_of(request, settings_of(request).file_bytes) as upload:
        record = FileRecord(
            filename=upload.filename,
            purpose=upload.purpose,
            created_at=int(time.time()),
            nonce=uuid.uuid4().hex,
        )
        with tempfile.TemporaryFile() as file:
            file.write(first_line(record))
            begins = file.tell()
            upload.file.seek(0)
            await off_loop(shutil.copyfileobj, upload.file, file, 1 << 20)
            size = file.tell() - begins
            id = await records.save(rooms.artifacts, FileRecord, cast(BinaryIO, file))
    stored = Stored(id=id, digest=records.digest_of(FileRecord, id), begins=begins, size=size)
    return JSONResponse(_shown(record, stored))


async def list_files(request: Request) -> Response:
    """``GET /v1/files``: those that were uploaded, newest first unless ``order`` is ``asc``."""
    query = query_of(request, "after", "limit", "order", "purpose")
    room = rooms_of(request).artifacts
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise bad("order", f"order is {order[:100]!r}; it has to be asc or desc.")
    limit = limit_of(query, _MOST, _MOST)
    ids = await records.ids_of(room, FileRecord) if query.get("purpose", "batch") == "batch" else []
    ids = ids[::-1] if order == "asc" else ids
    found, more = await records.page_of(room, FileRecord, ids, query.get("after"), limit)
    return JSONResponse(listed([_shown(*each) for each in found], more))


async def get_file(request: Request) -> Response:
    """``GET /v1/files/{id}``."""
    id, rooms = request.path_params["id"], rooms_of(request)
    made = await _made(rooms, id)
    if made is None:
        return JSONResponse(_shown(*await records.load(rooms.artifacts, FileRecord, id)))
    batch, kind = made
    size = await while_connected(request, _size(rooms, batch, kind))
    return JSONResponse(
        {
            "id": id,
            "object": "file",
            "bytes": size,
            "created_at": batch.end or batch.record.created_at,
            "filename": f"{batch.stored.id}_{kind}.jsonl",
            "purpose": "batch_output",
            "status": "processed",
        }
    )


async def get_content(request: Request) -> Response:
    """``GET /v1/files/{id}/content``, as a stream."""
    id, rooms = request.path_params["id"], rooms_of(request)
    made = await _made(rooms, id)
    if made is None:
        _, stored = await records.load(rooms.artifacts, FileRecord, id)
        content = records.bytes_of(rooms.artifacts, stored.digest, stored.begins)
    else:
        content = content_of(rooms, *made)
    try:  # what is wrong at its beginning still has a status of its own
        first = await anext(content, b"")
    except NotFound:
        raise no_such(FileRecord, id) from None
    return StreamingResponse(_joined(first, content), media_type="application/jsonl")


async def delete_file(request: Request) -> Response:
    """``DELETE /v1/files/{id}``."""
    id, rooms = request.path_params["id"], rooms_of(request)
    if named(id) is not None:
        await _made(rooms, id)
        raise unsupported("file_id", "This file is made of its batch's results, and goes with their job.")
    _, stored = await records.load(rooms.artifacts, FileRecord, id)
    await rooms.artifacts.delete_artifact(digest=stored.digest)
    return JSONResponse({"id": id, "object": "file", "deleted": True})


async def _made(rooms: Rooms, id: str) -> tuple[Batch, Kind] | None:
    """The batch whose output or errors a file has; None: it was uploaded.

    Raises
    ------
    ApiError
        404: no such batch, or the batch has no such file, or not yet.
    """
    found = named(id)
    if found is None:
        return None
    batch_id, kind = found
    try:
        record, stored = await records.load(rooms.artifacts, BatchRecord, batch_id)
    except ApiError as error:
        raise no_such(FileRecord, id) if error.status == 404 else error from None
    batch = await batch_of(rooms, record, stored)
    field = "output_file_id" if kind == "output" else "error_file_id"
    if (await shown(rooms, batch))[field] != file_id_of(batch, kind):
        raise no_such(FileRecord, id)
    return batch, kind


async def _size(rooms: Rooms, batch: Batch, kind: Kind) -> int:
    size = 0
    async with aclosing(content_of(rooms, batch, kind)) as parts:
        async for part in parts:
            size += len(part)
    return size


async def _joined(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for part in rest:
            yield part


def _shown(record: FileRecord, stored: Stored) -> Json:
    return {
        "id": stored.id,
        "object": "file",
        "bytes": stored.size,
        "created_at": record.created_at,
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
    }


def query_of(request: Request, *names: str) -> dict[str, str]:
    """The query of a list, without what is empty; a parameter that is not one of the names is refused."""
    for name in request.query_params:
        if name not in names:
            raise unsupported(name[:100], f"{request.url.path} does not support {name[:100]}. Leave it out.")
    return {name: value for name, value in request.query_params.items() if value}


def limit_of(query: dict[str, str], default: int, most: int) -> int:
    """The length of a page."""
    given = query.get("limit", str(default))
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
        raise bad("limit", f"limit is {given[:100]!r}; it has to be from 1 to {most}.")
    return int(given)


def listed(found: list[Json], more: bool) -> Json:
    """A page in OpenAI's form."""
    ends = (
        {"first_id": found[0]["id"], "last_id": found[-1]["id"]}
        if found
        else {"first_id": None, "last_id": None}
    )
    return {"object": "list", "data": found, **ends, "has_more": more}
