"""Errors: one tree for servers, workers and clients. The catalogue of reasons is ``palimpsest.reasons``.

::

    PalimpsestError
    ├── InvalidArgument      the request can never succeed as it is; see .violations
    ├── NotFound             the named thing does not exist
    ├── AlreadyExists        the name is taken by something else
    ├── FailedPrecondition   the request is fine, the state of the system is not
    ├── OutOfRange           a position past what exists; metadata says where to go on
    ├── Aborted              lost a race; read again and retry
    ├── ResourceExhausted    a queue, quota or store is full; retry after .retry_after seconds
    ├── Unauthenticated      no token, or not a valid one
    ├── PermissionDenied     the token does not reach this far
    ├── Cancelled            the caller or a cancel request ended the work
    ├── DeadlineExceeded     it took longer than the caller allowed
    ├── Unavailable          the server or something behind it is away; safe to retry
    ├── Unimplemented        this server does not have the method
    ├── DataLoss             stored bytes are damaged
    └── Internal             a bug in the server

Domain code raises these; the server's interceptor turns them into ``google.rpc.Status`` with
``ErrorInfo{reason, domain, metadata}``; the client turns that back into the same classes. This module and the
catalogue import nothing but the standard library, so that every layer may use them.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import ClassVar, NamedTuple

from palimpsest.reasons import Reason as Reason

DOMAIN = "palimpsest"
"""``ErrorInfo.domain`` of every error this project raises."""


class Code(IntEnum):
    """The gRPC status codes in use, by number, without importing grpc."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Violation(NamedTuple):
    """One field that broke a limit: the dotted path of the field, and what to do about it."""

    field: str
    description: str


class PalimpsestError(Exception):
    """Base of every error the project raises on purpose.

    Parameters
    ----------
    reason
        Catalogue entry; stable, for programs.
    message
        One or two sentences for people: what is wrong and what to do.
    metadata
        Short machine-readable facts, such as lengths and names.
    violations
        Fields of the request that broke a limit.
    retry_after
        Seconds after which the same request may succeed; None where retrying is of no use.
    """

    code: ClassVar[Code] = Code.UNKNOWN

    def __init__(
        self,
        reason: Reason | str,
        message: str,
        *,
        metadata: Mapping[str, object] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = str(reason)
        self.message = message
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}
        self.violations = tuple(violations)
        self.retry_after = retry_after

    def __str__(self) -> str:
        details = "".join(f"\n  {v.field}: {v.description}" for v in self.violations)
        return f"{self.message} [{self.reason}]{details}"


class InvalidArgument(PalimpsestError):
    """The request can never succeed as it is."""

    code = Code.INVALID_ARGUMENT

    @classmethod
    def field(cls, reason: Reason, field: str, message: str, **metadata: object) -> "InvalidArgument":
        """Build the common case: one field, one complaint."""
        return cls(reason, message, violations=[Violation(field, message)], metadata=metadata)


class NotFound(PalimpsestError):
    """The named thing does not exist."""

    code = Code.NOT_FOUND


class AlreadyExists(PalimpsestError):
    """The name is taken by something else."""

    code = Code.ALREADY_EXISTS


class FailedPrecondition(PalimpsestError):
    """The request is fine; the state of the system is not."""

    code = Code.FAILED_PRECONDITION


class OutOfRange(PalimpsestError):
    """A position past what exists."""

    code = Code.OUT_OF_RANGE


class Aborted(PalimpsestError):
    """Lost a race; read again and retry."""

    code = Code.ABORTED


class ResourceExhausted(PalimpsestError):
    """A queue, quota or store is full."""

    code = Code.RESOURCE_EXHAUSTED


class Unauthenticated(PalimpsestError):
    """No token, or not a valid one."""

    code = Code.UNAUTHENTICATED


class PermissionDenied(PalimpsestError):
    """The caller is known and may not do this."""

    code = Code.PERMISSION_DENIED


class Cancelled(PalimpsestError):
    """The caller or a cancel request ended the work."""

    code = Code.CANCELLED


class DeadlineExceeded(PalimpsestError):
    """It took longer than the caller allowed."""

    code = Code.DEADLINE_EXCEEDED


class Unavailable(PalimpsestError):
    """The server or something behind it is away; safe to retry."""

    code = Code.UNAVAILABLE


class Unimplemented(PalimpsestError):
    """The server does not have the method."""

    code = Code.UNIMPLEMENTED


class DataLoss(PalimpsestError):
    """Stored bytes are damaged."""

    code = Code.DATA_LOSS


class Internal(PalimpsestError):
    """A bug in the server."""

    code = Code.INTERNAL


BY_CODE: dict[int, type[PalimpsestError]] = {cls.code: cls for cls in PalimpsestError.__subclasses__()}
"""The class for a status code; codes without one are plain PalimpsestError."""


def from_code(code: int, reason: str, message: str, **details: object) -> PalimpsestError:
    """Build the error for a numeric status code, as clients and job records hold it."""
    return BY_CODE.get(code, PalimpsestError)(reason, message, **details)  # type: ignore[arg-type]
