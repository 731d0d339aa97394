"""What a handler can find out about the call it serves."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from fnmatch import fnmatchcase

from palimpsest.rpc.idleness import Idleness


@dataclass(frozen=True, slots=True)
class CallInfo:
    """The call now being served.

    Attributes
    ----------
    method
        Full name, such as ``/palimpsest.api.decoding.v1.DecodingService/Generate``.
    principal
        Owner of what the call makes or reaches; ``"local"`` where no token is asked for.
    request_id
        The caller's ``x-request-id``, or one made here; in every log line and error of the call.
    scopes
        Patterns of the scopes that the caller has.
    idleness
        How long the call has been waiting for its caller; None outside of a call.
    """

    method: str
    principal: str
    request_id: str
    scopes: tuple[str, ...] = ()
    idleness: Idleness | None = None

    def has(self, scope: str) -> bool:
        """Return whether the caller has a scope, such as one that reaches what belongs to every principal."""
        return granted(scope, self.scopes)


def granted(scope: str, patterns: Iterable[str]) -> bool:
    """Return whether one of some patterns grants a scope."""
    return any(fnmatchcase(scope, pattern) for pattern in patterns)


current: ContextVar[CallInfo] = ContextVar("palimpsest_call")


def call() -> CallInfo:
    """Return the call being served; outside of one, a local call without a name."""
    return current.get(CallInfo("", "local", ""))


def working() -> AbstractContextManager[None]:
    """While a handler that reads on works on what it has received: the caller's silence is no idleness then."""
    idleness = call().idleness
    return idleness.working() if idleness is not None else nullcontext()
