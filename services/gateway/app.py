"""The application: routes, errors, and what is around every request."""

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palimpsest.errors import PalimpsestError
from palimpsest.settings import GatewaySettings
from services.gateway.backend import Backend
from services.gateway.batches import batch_endpoints, file_endpoints
from services.gateway.endpoints import chat, completions, embeddings, health, models, tokens
from services.gateway.errors import ApiError, from_rooms
from services.gateway.metrics import Measured, metrics

_log = structlog.get_logger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

ROUTES = [
    Route("/health", health.health, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
    Route("/v1/models", models.list_models, methods=["GET"]),
    Route("/v1/models/{model:path}", models.get_model, methods=["GET"]),
    Route("/v1/completions", completions.completions, methods=["POST"]),
    Route("/v1/chat/completions", chat.chat_completions, methods=["POST"]),
    Route("/v1/embeddings", embeddings.embeddings, methods=["POST"]),
    Route("/v1/rerank", embeddings.rerank, methods=["POST"]),
    Route("/v1/files", file_endpoints.list_files, methods=["GET"]),
    Route("/v1/files", file_endpoints.create_file, methods=["POST"]),
    Route("/v1/files/{id}", file_endpoints.get_file, methods=["GET"]),
    Route("/v1/files/{id}", file_endpoints.delete_file, methods=["DELETE"]),
    Route("/v1/files/{id}/content", file_endpoints.get_content, methods=["GET"]),
    Route("/v1/batches", batch_endpoints.list_batches, methods=["GET"]),
    Route("/v1/batches", batch_endpoints.create_batch, methods=["POST"]),
    Route("/v1/batches/{id}", batch_endpoints.get_batch, methods=["GET"]),
    Route("/v1/batches/{id}/cancel", batch_endpoints.cancel_batch, methods=["POST"]),
    Route("/tokenize", tokens.tokenize, methods=["POST"]),
    Route("/detokenize", tokens.detokenize, methods=["POST"]),
    Route("/tokenizer_info", tokens.tokenizer_info, methods=["GET"]),
    Route("/apply-template", tokens.apply_template, methods=["POST"]),
]


def create_app(backend: Backend, gateway: GatewaySettings) -> Starlette:
    """The gateway over some rooms.

    Parameters
    ----------
    backend
        Closed when the application ends.
    gateway
        Limits of requests.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await backend.close()

    handlers: dict[Any, Any] = {
        ApiError: _ours,
        PalimpsestError: _of_rooms,
        ClientDisconnect: _left,
        HTTPException: _of_http,
        Exception: _bug,
    }
    middleware = [Middleware(Measured), Middleware(Named)]
    app = Starlette(routes=ROUTES, middleware=middleware, exception_handlers=handlers, lifespan=lifespan)
    app.state.backend, app.state.gateway = backend, gateway
    return app


class Named:
    """Gives each request an id, under which the rooms log their part of it; the caller may choose it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        await self._app(scope, receive, sent)


async def _ours(_request: Request, error: ApiError) -> Response:
    return error.response()


async def _of_rooms(_request: Request, error: PalimpsestError) -> Response:
    return from_rooms(error).response()


async def _left(request: Request, _error: ClientDisconnect) -> Response:
    _log.info("caller left", path=request.url.path)
    return Response(status_code=499)  # to nobody


async def _of_http(request: Request, error: HTTPException) -> Response:
    message = {
        404: f"There is no {request.url.path} here; the README of services/gateway lists what there is.",
        405: f"{request.url.path} does not take {request.method}.",
    }.get(error.status_code, error.detail)
    answer = ApiError(error.status_code, message, code="not_found" if error.status_code == 404 else None)
    response = answer.response()
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _bug(request: Request, error: Exception) -> Response:
    request_id = request.state.request_id
    _log.error("bug", path=request.url.path, request_id=request_id, exc_info=error)
    return ApiError(
        500,
        f"The gateway failed on this request; its log has the details under request id {request_id}.",
        code="bug",
    ).response()
