"""``POST /v1/embeddings`` and ``POST /v1/rerank``: vectors of the sentence encoder that corpora are searched with."""

import base64
import struct
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from palimpsest.client.aio.datastore import AsyncDatastore
from palimpsest.errors import InvalidArgument, Reason
from services.gateway.bodies import Body, read
from services.gateway.calls import rooms_of
from services.gateway.connections import while_connected
from services.gateway.errors import ApiError, bad, unsupported
from services.gateway.text.generation import new_id
from services.gateway.text.messages import NullsLeftOut

_AT_ONCE = 256
"""Texts of one call to the room."""


class EmbeddingsBody(Body):
    """``user`` has no effect."""

    model: str = ""
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None


class Document(NullsLeftOut):
    """A document as an object."""

    text: str


class RerankBody(Body):
    """``top_n`` unset: all documents."""

    model: str = ""
    query: str
    documents: list[str] | list[Document]
    top_n: int | None = None
    return_documents: bool = False


@dataclass(frozen=True)
class Embedded:
    """Vectors of some texts, and what they took."""

    encoder: str
    vectors: list[bytes]
    tokens: int


async def embeddings(request: Request) -> Response:
    """``POST /v1/embeddings``."""
    body = await read(request, EmbeddingsBody)
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not texts:
        raise bad("input", "input is empty; send at least one text.")
    if not all(isinstance(each, str) for each in texts):
        raise unsupported(
            "input", "input as token ids is not supported: the encoder has a vocabulary of its own."
        )
    work = embedded(rooms_of(request).datastore, body.model, [str(each) for each in texts], "input")
    found = await while_connected(request, work)
    data = [
        {"object": "embedding", "index": at, "embedding": _written(vector, body.encoding_format)}
        for at, vector in enumerate(found.vectors)
    ]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return JSONResponse({"object": "list", "data": data, "model": found.encoder, "usage": usage})


async def rerank(request: Request) -> Response:
    """``POST /v1/rerank``: documents by their likeness to a query (cosine), the likest first."""
    body = await read(request, RerankBody)
    if body.top_n is not None and body.top_n < 1:
        raise bad("top_n", f"top_n is {body.top_n}; it has to be at least 1.")
    if not body.documents:
        raise bad("documents", "documents is empty; send at least one.")
    texts = [each if isinstance(each, str) else each.text for each in body.documents]
    room = rooms_of(request).datastore

    async def work() -> tuple[Embedded, Embedded]:
        return (
            await embedded(room, body.model, [body.query], "query"),
            await embedded(room, body.model, texts, "documents"),
        )

    query, documents = await while_connected(request, work())
    wanted = _floats(query.vectors[0])
    scores = [sum(a * b for a, b in zip(wanted, _floats(v), strict=True)) for v in documents.vectors]
    order = sorted(range(len(texts)), key=lambda at: (-scores[at], at))
    results: list[dict[str, Any]] = []
    for at in order[: body.top_n]:
        found: dict[str, Any] = {"index": at, "relevance_score": scores[at]}
        if body.return_documents:
            found["document"] = {"text": texts[at]}
        results.append(found)
    usage = {"total_tokens": query.tokens + documents.tokens}
    return JSONResponse({"id": new_id("rerank"), "model": query.encoder, "results": results, "usage": usage})


async def embedded(room: AsyncDatastore, encoder: str, texts: list[str], field: str) -> Embedded:
    """Encode texts, some at a time.

    Parameters
    ----------
    room
        Of the caller.
    encoder
        Its name; empty: the default.
    texts
        Each no longer than the encoder reads.
    field
        What the request calls them.

    Raises
    ------
    ApiError
        404: no such encoder. 400: a text is longer than the encoder reads, which would cut it off without a word.
    """
    vectors: list[bytes] = []
    tokens, name = 0, encoder
    for at, text in enumerate(texts):
        if not text.strip():
            where = field if len(texts) == 1 else f"{field}[{at}]"
            raise bad(where, f"{where} is empty; leave it out.")
    for at in range(0, len(texts), _AT_ONCE):
        try:
            found = await room.embed(encoder=encoder, texts=texts[at : at + _AT_ONCE])
        except InvalidArgument as error:
            if error.reason != Reason.ENCODER_UNKNOWN:
                raise
            raise ApiError(404, error.message, code="model_not_found", param="model") from None
        for row, vector in enumerate(found.vectors):
            if found.longest and vector.tokens > found.longest:
                where = field if len(texts) == 1 else f"{field}[{at + row}]"
                raise bad(
                    where,
                    f"{where} has {vector.tokens} tokens; {found.encoder} reads {found.longest}. Send shorter texts: "
                    "nothing is cut off.",
                    "prompt_too_long",
                )
            tokens += vector.tokens
            vectors.append(vector.values)
        name = found.encoder
    return Embedded(name, vectors, tokens)


def _floats(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def _written(vector: bytes, form: str) -> str | list[float]:
    return base64.b64encode(vector).decode() if form == "base64" else list(_floats(vector))
