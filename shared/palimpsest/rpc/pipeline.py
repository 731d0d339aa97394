"""What happens to every call before and after its handler.

In order: authenticate, give it a request id, hold it to the limits and its deadline, parse and validate the
request, run the handler, translate what it raises. One interceptor runs the stages as plain code, so that a
traceback shows them and a call pays for one wrapper only.

Handlers receive parsed, valid messages and raise :mod:`palimpsest.errors`. Requests reach this module as bytes: gRPC
itself would answer INTERNAL to a message that does not parse, as if the server were at fault.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog

from palimpsest.disk import disk_full, is_full
from palimpsest.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    PalimpsestError,
    Reason,
    Unavailable,
    Unimplemented,
)
from palimpsest.rpc import calls
from palimpsest.rpc.admission import HEALTH, Admission
from palimpsest.rpc.audit import AuditedCall, AuditLog
from palimpsest.rpc.auth import Authenticator, access_of
from palimpsest.rpc.exchange import Begins, Exchange, Received
from palimpsest.rpc.idleness import Idleness
from palimpsest.rpc.quotas import Quotas
from palimpsest.settings import Settings
from palimpsest.status import DETAILS_KEY, to_status
from palimpsest.telemetry import extract, span
from palimpsest.telemetry.metrics import RPC_RUNNING, RPC_SECONDS

_log = structlog.get_logger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


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
        self._admission = Admission(settings)
        self._running: set[asyncio.Task[None]] = set()
        self._evicted: dict[asyncio.Task[None], PalimpsestError] = {}
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
        exchange = Exchange(method, handler)

        async def serve(raw: Any, context: Any) -> Any:
            return await self._serve(
                method,
                metadata,
                exchange.streams,
                context,
                lambda *watching: exchange.run(raw, context, *watching),
            )

        return exchange.mounted(serve)

    async def _serve(
        self,
        method: str,
        metadata: dict[str, Any],
        streams: bool,
        context: Any,
        run: Callable[[Received, Begins, Idleness], Awaitable[Any]],
    ) -> Any:
        started = time.monotonic()
        given = metadata.get("x-request-id", "")
        request_id = given if isinstance(given, str) and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        task: asyncio.Task[None] = asyncio.current_task()  # type: ignore[assignment]
        limited = not method.startswith(HEALTH)
        audited = AuditedCall(self._audit if access_of(method).mutating else None, method, request_id)
        places = token = None
        code, charged = "UNKNOWN", True  # a job's calls are not charged: it was admitted as a job
        idleness = Idleness(self._settings.stream_idle_seconds, lambda error: self._evict(task, error))

        def received(body: bytes) -> None:
            audited.request = audited.request or body
            self._quotas.bytes(audited.principal if charged else None, len(body))

        try:
            caller = self._authenticator.caller(method, metadata)
            audited.principal, audited.actor = caller.principal, caller.actor
            info = calls.CallInfo(method, caller.principal, request_id, caller.scopes, idleness)
            token = calls.current.set(info)
            structlog.contextvars.bind_contextvars(request_id=request_id)
            if limited and self._draining:
                raise _draining()
            places = self._admission.enter(method, caller.principal, caller.by_job)
            charged = not caller.by_job
            if limited:
                self._running.add(task)
                self._quotas.request(caller.principal if charged else None)
            limit = self._time_limit(method, streams, context)
            with extract(metadata), span(method, kind="SERVER", request_id=request_id):
                async with asyncio.timeout(limit):
                    outcome = await run(received, audited.begin, idleness)
            code = "OK"
            return outcome
        except asyncio.CancelledError:
            if task not in self._evicted:
                code = "CANCELLED"
                raise  # the caller is gone
            task.uncancel()
            code = self._evicted[task].code.name
            await _abort(context, self._evicted[task], request_id)
        except grpc.aio.AbortError:
            code = "ABORTED BY HANDLER"
            raise
        except grpc.aio.InternalError:
            code = "CANCELLED"  # what was to be sent reached nobody: the caller is gone
            raise asyncio.CancelledError from None
        except Exception as error:
            known = self._translate(error, method, request_id)
            code = known.code.name
            await _abort(context, known, request_id)
        finally:
            idleness.stop()
            self._running.discard(task)
            self._evicted.pop(task, None)
            if places is not None:
                places.leave(audited.principal)
            if token is not None:
                calls.current.reset(token)
            seconds = time.monotonic() - started if limited else None
            self._record(audited, code, seconds)

    def _record(self, audited: AuditedCall, code: str, seconds: float | None) -> None:
        """Log, measure and audit a call that has ended; probes (``seconds`` None) are not logged."""
        if seconds is not None:
            _log.info("rpc", **audited.who(), code=code, seconds=round(seconds, 4))
            RPC_SECONDS.labels(*audited.method.lstrip("/").split("/"), code).observe(seconds)
        audited.end(code)

    def _evict(self, task: asyncio.Task[None], error: PalimpsestError) -> None:
        """End a call from outside, with an error."""
        self._evicted[task] = error
        task.cancel()

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
        if is_full(error):
            _log.warning("disk full", method=method, request_id=request_id, error=str(error))
            return disk_full("what this call writes")
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
            self._evict(task, _draining())
        if left:
            await asyncio.wait(left, timeout=2.0)


async def _abort(context: Any, error: PalimpsestError, request_id: str) -> None:
    status = to_status(error)
    try:
        await context.abort(
            _STATUS[error.code],
            status.message,
            ((DETAILS_KEY, status.SerializeToString()), ("x-request-id", request_id)),
        )
    except grpc.aio.InternalError:  # the caller is gone
        raise asyncio.CancelledError from None


_STATUS: dict[int, grpc.StatusCode] = {status.value[0]: status for status in grpc.StatusCode}


def _draining() -> Unavailable:
    return Unavailable(
        Reason.SHUTTING_DOWN, "The server is shutting down; send the request again.", retry_after=1.0
    )
