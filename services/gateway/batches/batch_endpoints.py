"""``/v1/batches``: requests of a file, answered by one job of ``GenerateBatch``."""

import hashlib
import tempfile
import uuid
from typing import Any, BinaryIO, Literal, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.aio.concurrency import off_loop
from palimpsest.client.aio.jobs import AsyncJob
from palimpsest.errors import PalimpsestError, Reason
from services.gateway.backend import Rooms
from services.gateway.batches import records
from services.gateway.batches.file_endpoints import limit_of, listed, query_of
from services.gateway.batches.inputs import Conversion
from services.gateway.batches.outputs import ENDED, batch_of, named, shown
from services.gateway.batches.records import BatchRecord, FileRecord, first_line
from services.gateway.bodies import Body, read
from services.gateway.calls import rooms_of, settings_of
from services.gateway.errors import ApiError, bad

Json = dict[str, Any]
_LONGEST_KEY = 255


class BatchBody(Body):
    """The fields of a request. A batch has no deadline other than its job's, which is a day."""

    input_file_id: str
    endpoint: Literal["/v1/chat/completions", "/v1/completions"]
    completion_window: Literal["24h"]
    metadata: dict[str, str] | None = None


async def create_batch(request: Request) -> Response:
    """``POST /v1/batches``."""
    body = await read(request, BatchBody)
    _check_metadata(body.metadata)
    key = request.headers.get("idempotency-key", "")
    if len(key) > _LONGEST_KEY:
        raise ApiError(400, f"Idempotency-Key has more than {_LONGEST_KEY} characters.", code="invalid_value")
    rooms, settings = rooms_of(request), settings_of(request)
    # A repeated request with the same key makes the same job and the same record.
    nonce = hashlib.sha256(key.encode()).hexdigest()[:32] if key else uuid.uuid4().hex
    conversion = Conversion(
        body.endpoint, nonce, settings.model, settings.chat_max_tokens, settings.batch_lines
    )
    with tempfile.TemporaryFile() as errors:
        digest = await _converted(rooms, body.input_file_id, conversion, cast(BinaryIO, errors))
        job = await _submitted(rooms, conversion, digest)
        created = (await job.progress()).create_time.seconds
        record = BatchRecord(
            **body.model_dump(include={"input_file_id", "endpoint", "metadata"}),
            model=conversion.model,
            operation=job.name,
            lines=conversion.lines,
            refused=conversion.refused,
            created_at=created,
            nonce=nonce,
        )
        id = await _saved(rooms, record, cast(BinaryIO, errors))
    return JSONResponse(await _shown(rooms, id))


async def _converted(rooms: Rooms, file_id: str, conversion: Conversion, errors: BinaryIO) -> str:
    """Convert a file; gives the digest of what the job reads."""
    if named(file_id) is not None:
        raise bad(
            "input_file_id", "The purpose of this file is batch_output; a batch takes one of purpose batch."
        )
    try:
        _, stored = await records.load(rooms.artifacts, FileRecord, file_id)
    except ApiError as error:
        error.param = "input_file_id"
        raise
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as requests:
        await rooms.artifacts.download(stored.digest, cast(BinaryIO, source))
        source.seek(stored.begins)
        await off_loop(conversion.run, cast(BinaryIO, source), cast(BinaryIO, requests), errors)
        requests.seek(0)
        made = await rooms.artifacts.upload(cast(BinaryIO, requests), media_type="application/jsonl")
    return made.digest


async def _submitted(rooms: Rooms, conversion: Conversion, digest: str) -> AsyncJob[pb.GenerateBatchResponse]:
    try:
        return await rooms.decoding.generate_batch(
            model=conversion.model,
            input=digest,
            request_id=f"http-batch-{conversion.nonce}",
            skip_cache=True,  # a job of its own: whoever cancels another batch does not cancel this one
        )
    except PalimpsestError as error:
        if error.reason != Reason.REQUEST_ID_REUSED:
            raise
        message = "This Idempotency-Key was used before, for a batch of other lines; choose a new one."
        raise ApiError(400, message, code="idempotency_key_reused") from None


async def _saved(rooms: Rooms, record: BatchRecord, errors: BinaryIO) -> str:
    """Store the record with the error lines behind it; gives the id."""
    with tempfile.TemporaryFile() as file:
        file.write(first_line(record))
        errors.seek(0)
        while data := await off_loop(errors.read, 1 << 20):
            file.write(data)
        return await records.save(rooms.artifacts, BatchRecord, cast(BinaryIO, file))


async def list_batches(request: Request) -> Response:
    """``GET /v1/batches``, newest first."""
    query = query_of(request, "after", "limit")
    rooms = rooms_of(request)
    limit = limit_of(query, 20, 100)
    ids = await records.ids_of(rooms.artifacts, BatchRecord)
    found, more = await records.page_of(rooms.artifacts, BatchRecord, ids, query.get("after"), limit)
    made = [await shown(rooms, await batch_of(rooms, *each)) for each in found]
    return JSONResponse(listed(made, more))


async def get_batch(request: Request) -> Response:
    """``GET /v1/batches/{id}``."""
    return JSONResponse(await _shown(rooms_of(request), request.path_params["id"]))


async def cancel_batch(request: Request) -> Response:
    """``POST /v1/batches/{id}/cancel``; what has been answered by then stays."""
    id, rooms = request.path_params["id"], rooms_of(request)
    record, stored = await records.load(rooms.artifacts, BatchRecord, id)
    batch = await batch_of(rooms, record, stored)
    if batch.status in ENDED - {"cancelled"}:
        raise bad("batch_id", f"The batch is {batch.status}; it cannot be cancelled any more.", "batch_ended")
    await rooms.jobs.cancel(record.operation)
    return JSONResponse(await _shown(rooms, id))


async def _shown(rooms: Rooms, id: str) -> Json:
    record, stored = await records.load(rooms.artifacts, BatchRecord, id)
    return await shown(rooms, await batch_of(rooms, record, stored))


def _check_metadata(metadata: dict[str, str] | None) -> None:
    """OpenAI's limits."""
    pairs = metadata or {}
    if len(pairs) > 16 or any(len(k) > 64 or len(v) > 512 for k, v in pairs.items()):
        raise bad("metadata", "metadata has at most 16 pairs, of keys of 64 characters and values of 512.")
