"""What happens to every call before and after its handler.

In order: authenticate, give it a request id, hold it to the limits and its deadline, parse and validate the
request, run the handler, translate what it raises. One interceptor runs the stages as plain code, so that a
traceback shows them and a call pays for one wrapper only.

Handlers receive parsed, valid messages and raise :mod:`palimpsest.errors`. Requests reach this module as bytes: gRPC
itself would answer INTERNAL to a message that does not parse, as if the server were at fault.
"""

import asyncio
import contextlib
import inspect
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from palimpsest.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    PalimpsestError,
    Reason,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from palimpsest.rpc import calls
from palimpsest.rpc.answers import checked
from palimpsest.rpc.audit import AuditLog
from palimpsest.rpc.auth import ADMIN_JOBS, Authenticator, access_of
from palimpsest.rpc.quotas import Quotas
from palimpsest.rpc.validation import validate
from palimpsest.settings import Settings
from palimpsest.status import DETAILS_KEY, to_status
from palimpsest.telemetry import extract, span
from palimpsest.telemetry.metrics import RPC_RUNNING, RPC_SECONDS

_log = structlog.get_logger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_UNLIMITED = ("/grpc.health.v1.Health/",)
"""Answered even by a full or draining server: a failed probe would restart it."""

Handler = Callable[[Any, grpc.aio.ServicerContext], Any]


class Pipeline(grpc.aio.ServerInterceptor):
    """The interceptor of every server.

    Parameters
    ----------
    settings
        Limits and deadlines.
    authenticator
        Who may call.
    audit
        Where mutating calls are recorded; None: nowhere.
    """

    def __init__(
        self, settings: Settings, authenticator: Authenticator, audit: AuditLog | None = None
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._audit = audit
        self._quotas = Quotas(settings)
        self._running: set[asyncio.Task[None]] = set()
        self._evicted: set[asyncio.Task[None]] = set()
        self._draining = False
        RPC_RUNNING.set_function(lambda: len(self._running))

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Wrap the method's handler; gRPC itself refuses a method that no servicer has."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        metadata: dict[str, Any] = dict(handler_call_details.invocation_metadata or ())
        streams = bool(handler.request_streaming or handler.response_streaming)
        inner: Handler = next(
            f
            for f in (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
            if f
        )

        async def run(raw: Any, context: Any, received: Callable[[bytes], None]) -> Any:
            def take(body: bytes) -> Message:
                received(body)
                return _parse(handler.request_deserializer, body)

            async def take_all() -> AsyncIterator[Message]:
                async for body in raw:
                    yield take(body)

            outcome = inner(take_all() if handler.request_streaming else take(raw), context)
            if not inspect.isasyncgen(outcome):
                return checked(await outcome)
            async with contextlib.aclosing(
                outcome
            ):  # when the caller leaves, the handler must not go on waiting
                async for message in outcome:
                    await context.write(checked(message))

        async def wrapped(raw: Any, context: Any) -> Any:
            return await self._serve(
                method, metadata, streams, context, lambda received: run(raw, context, received)
            )

        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[bool(handler.request_streaming), bool(handler.response_streaming)]
        return make(wrapped, request_deserializer=None, response_serializer=handler.response_serializer)

    async def _serve(
        self,
        method: str,
        metadata: dict[str, Any],
        streams: bool,
        context: Any,
        run: Callable[[Callable[[bytes], None]], Awaitable[Any]],
    ) -> Any:
        started = time.monotonic()
        given = metadata.get("x-request-id", "")
        request_id = given if isinstance(given, str) and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        task: asyncio.Task[None] = asyncio.current_task()  # type: ignore[assignment]
        limited = not method.startswith(_UNLIMITED)
        principal, actor, code, first = "", "", "UNKNOWN", b""
        token = None

        def received(body: bytes) -> None:
            nonlocal first
            first = first or body
            self._quotas.bytes(principal, len(body))

        try:
            caller = self._authenticator.caller(method, metadata)
            principal, actor = caller.principal, caller.actor
            info = calls.CallInfo(method, principal, request_id, admin_jobs=caller.has(ADMIN_JOBS))
            token = calls.current.set(info)
            structlog.contextvars.bind_contextvars(request_id=request_id)
            if limited:
                self._admit()
                self._running.add(task)
                self._quotas.request(principal)
            limit = self._time_limit(method, streams, context)
            with extract(metadata), span(method, kind="SERVER", request_id=request_id):
                async with asyncio.timeout(limit):
                    outcome = await run(received)
            code = "OK"
            return outcome
        except asyncio.CancelledError:
            if task not in self._evicted:
                code = "CANCELLED"
                raise  # the caller is gone
            task.uncancel()
            code = "UNAVAILABLE"
            gone = Unavailable(
                Reason.SHUTTING_DOWN, "The server is shutting down; send the request again.", retry_after=1.0
            )
            await _abort(context, gone, request_id)
        except grpc.aio.AbortError:
            code = "ABORTED BY HANDLER"
            raise
        except Exception as error:
            known = self._translate(error, method, request_id)
            code = known.code.name
            await _abort(context, known, request_id)
        finally:
            self._running.discard(task)
            self._evicted.discard(task)
            if token is not None:
                calls.current.reset(token)
            seconds = time.monotonic() - started if limited else None
            self._record(method, principal, actor, request_id, code, first, seconds)

    def _record(
        self,
        method: str,
        principal: str,
        actor: str,
        request_id: str,
        code: str,
        first: bytes,
        seconds: float | None,
    ) -> None:
        """Log, measure and audit a call that has ended; probes (``seconds`` None) are not logged."""
        who = {
            "method": method,
            "principal": principal,
            "actor": actor,
            "request_id": request_id,
            "code": code,
        }
        if seconds is not None:
            _log.info("rpc", **who, seconds=round(seconds, 4))
            RPC_SECONDS.labels(*method.lstrip("/").split("/"), code).observe(seconds)
        if self._audit and access_of(method).mutating:
            self._audit.record(**who, request=first)

    def _admit(self) -> None:
        if self._draining:
            raise Unavailable(
                Reason.SHUTTING_DOWN, "The server is shutting down; send the request again.", retry_after=1.0
            )
        if len(self._running) >= self._settings.max_concurrent_rpcs:
            raise ResourceExhausted(
                Reason.TOO_MANY_REQUESTS,
                f"The server is serving {len(self._running)} calls, its limit; send it again shortly.",
                retry_after=1.0,
            )

    def _time_limit(self, method: str, streams: bool, context: Any) -> float | None:
        """Seconds the call may take; the caller's deadline, checked, or the default for unary calls."""
        remaining: float | None = context.time_remaining()
        if streams:
            return remaining
        longest = float(access_of(method).max_seconds or self._settings.max_deadline)
        if remaining is None:
            return min(self._settings.default_deadline, longest)
        if remaining > longest + 1.0:
            raise InvalidArgument(
                Reason.DEADLINE_TOO_LONG,
                f"The deadline is {remaining:.0f} s away; {method} allows at most {longest:.0f} s.",
                metadata={"max_seconds": longest},
            )
        return remaining

    def _translate(self, error: Exception, method: str, request_id: str) -> PalimpsestError:
        if isinstance(error, PalimpsestError):
            return error
        if isinstance(error, TimeoutError):
            return DeadlineExceeded(
                Reason.DEADLINE_EXCEEDED, "The call took longer than its deadline; pass a longer one."
            )
        if isinstance(
            error, NotImplementedError
        ):  # generated servicers raise it for a method that is left out
            return Unimplemented(Reason.UNIMPLEMENTED, f"This server does not have {method}.")
        _log.error("bug", method=method, request_id=request_id, exc_info=error)
        return Internal(
            Reason.BUG,
            f"The server failed on this request; its log has the details under request id {request_id}.",
            metadata={"request_id": request_id},
        )

    async def drain(self, grace: float) -> None:
        """Refuse new calls, give running ones grace seconds, then end the rest with UNAVAILABLE."""
        self._draining = True
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        left = set(self._running)
        for task in left:
            self._evicted.add(task)
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=2.0)


async def _abort(context: Any, error: PalimpsestError, request_id: str) -> None:
    status = to_status(error)
    await context.abort(
        _STATUS[error.code],
        status.message,
        ((DETAILS_KEY, status.SerializeToString()), ("x-request-id", request_id)),
    )


_STATUS: dict[int, grpc.StatusCode] = {status.value[0]: status for status in grpc.StatusCode}


def _parse(deserialize: Callable[[bytes], Message], body: bytes) -> Message:
    try:
        message = deserialize(body)
    except (DecodeError, UnicodeDecodeError, ValueError) as error:
        raise InvalidArgument(
            Reason.MALFORMED_MESSAGE,
            "The request is not a valid message of this method: damaged, of another type, or text that is not "
            "UTF-8.",
        ) from error
    validate(message)
    return message
