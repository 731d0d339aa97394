"""Uploads: multipart forms, read within limits into a temporary file."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from services.gateway.errors import ApiError, bad, unsupported

_MORE = 64 << 10
"""Bytes of the form around its file."""


@dataclass(frozen=True)
class Upload:
    """What was sent; the file is on disk where it is large."""

    file: BinaryIO
    filename: str
    purpose: str


@asynccontextmanager
async def upload_of(request: Request, limit: int) -> AsyncGenerator[Upload, None]:
    """Read the form; the file goes with the block.

    Parameters
    ----------
    request
        With the fields ``file`` and ``purpose``.
    limit
        Most bytes of the file.

    Raises
    ------
    ApiError
        413: too large. 415: no multipart form. 400: another field, or one that is missing or wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError(
            415,
            f"The body's content type is {kind or 'not given'}; send the file as multipart/form-data.",
            code="unsupported_media_type",
        )
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit + _MORE:
        raise _too_large(limit)
    parser = MultiPartParser(request.headers, _counted(request, limit), max_files=2, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise ApiError(400, f"The form cannot be read: {error.message}", code="invalid_form") from None
    except KeyError:  # its boundary
        raise ApiError(400, "The form's content type names no boundary.", code="invalid_form") from None
    try:
        for name in form:
            if name not in ("file", "purpose"):
                raise unsupported(name[:100], f"/v1/files does not support {name[:100]}. Leave it out.")
        for name in ("file", "purpose"):
            if len(form.getlist(name)) != 1:
                raise bad(name, f"{name} is required, once.", "missing_required_parameter")
        file, purpose = form["file"], form["purpose"]
        if not isinstance(file, UploadFile):
            raise bad("file", "file is a text; send a file.")
        if purpose != "batch":
            raise unsupported("purpose", "purpose has to be batch; files are for nothing else here.")
        if not file.size:
            raise bad("file", "file is empty.")
        yield Upload(cast(BinaryIO, file.file), (file.filename or "file")[:255], "batch")
    finally:
        await form.close()


async def _counted(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > limit + _MORE:
            raise _too_large(limit)
        yield chunk


def _too_large(limit: int) -> ApiError:
    message = f"The file is larger than {limit} bytes, the limit here (PALIMPSEST_GATEWAY_FILE_BYTES)."
    return ApiError(413, message, code="body_too_large", param="file")
