"""Errors on the wire: PalimpsestError to and from google.rpc.Status, losing nothing on the way."""

import math
from typing import Protocol

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from palimpsest.errors import DOMAIN, PalimpsestError, Reason, Unavailable, Violation, from_code

DETAILS_KEY = "grpc-status-details-bin"
"""Trailer that carries the serialized google.rpc.Status."""

_MOST_VIOLATIONS = 16
_LONGEST_MESSAGE = 1500
"""Characters. Trailers share an 8 KiB header limit; an error that breaks it would reach nobody."""


class _FailedCall(Protocol):
    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> object: ...


def to_status(error: PalimpsestError) -> status_pb2.Status:
    """Return the Status with ErrorInfo and, where they apply, BadRequest and RetryInfo."""
    status = status_pb2.Status(code=int(error.code), message=_shorten(error.message))
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(
            reason=error.reason,
            domain=DOMAIN,
            metadata={key: _shorten(value, 200) for key, value in list(error.metadata.items())[:16]},
        )
    )
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations[:_MOST_VIOLATIONS]:
            bad.field_violations.add(
                field=_shorten(violation.field, 100), description=_shorten(violation.description, 200)
            )
        status.details.add().Pack(bad)
    if error.retry_after is not None:
        delay = Duration()
        delay.FromNanoseconds(math.ceil(error.retry_after * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_status(status: status_pb2.Status) -> PalimpsestError:
    """Return the typed error a Status stands for, as Operation.error and error trailers hold it."""
    reason, metadata = "", {}
    violations: list[Violation] = []
    retry_after = None
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:  # Unpack says whether the detail is of that type
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            violations = [Violation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return from_code(
        status.code, reason, status.message, metadata=metadata, violations=violations, retry_after=retry_after
    )


def from_rpc_error(error: grpc.RpcError | _FailedCall) -> PalimpsestError:
    """Return the typed error for a failed call, whether the server, the library or the network ended it."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return from_code(2, "", str(error))
    for key, value in error.trailing_metadata() or ():  # type: ignore[union-attr]
        if key == DETAILS_KEY:
            status = status_pb2.Status()
            status.ParseFromString(value if isinstance(value, bytes) else value.encode("latin-1"))
            return from_status(status)
    # No details: gRPC itself spoke, not a room.
    code, details = error.code(), error.details() or ""
    if ended_while_sending(error):
        return Unavailable(
            Reason.SERVER_UNREACHABLE, "The server ended the call while it was being sent to; call it again."
        )
    reason, message = {
        grpc.StatusCode.UNAVAILABLE: (
            Reason.SERVER_UNREACHABLE,
            f"No server answers: {details}. Start one with `palimpsest up`, or check the address.",
        ),
        grpc.StatusCode.DEADLINE_EXCEEDED: (
            Reason.DEADLINE_EXCEEDED,
            "The call took longer than its deadline; pass a longer timeout=.",
        ),
        grpc.StatusCode.CANCELLED: (Reason.CANCELLED, "The call was cancelled."),
        grpc.StatusCode.UNIMPLEMENTED: (
            Reason.UNIMPLEMENTED,
            f"The server does not have this method ({details}); is it a server of this project and version?",
        ),
        grpc.StatusCode.RESOURCE_EXHAUSTED: (
            Reason.TOO_MANY_REQUESTS,
            f"The server or the transport is at a limit: {details}",
        ),
    }.get(code, ("", details or code.name))
    return from_code(code.value[0], reason, message)


def ended_while_sending(error: grpc.RpcError | _FailedCall) -> bool:
    """Whether an asyncio stream that sends and receives met its end in a send.

    grpc.aio then reports an INTERNAL of its own making, and what the server answered is lost.
    """
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == "Internal error from Core"  # type: ignore[union-attr]


def _shorten(text: str, limit: int = _LONGEST_MESSAGE) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
