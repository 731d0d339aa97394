"""What a handler can find out about the call it serves."""

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass

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
    admin_jobs
        Whether the caller reaches the jobs of every principal.
    idleness
        How long the call has been waiting for its caller; None outside of a call.
    """

    method: str
    principal: str
    request_id: str
    admin_jobs: bool = False
    idleness: Idleness | None = None


current: ContextVar[CallInfo] = ContextVar("palimpsest_call")


def call() -> CallInfo:
    """Return the call being served; outside of one, a local call without a name."""
    return current.get(CallInfo("", "local", ""))


def working() -> AbstractContextManager[None]:
    """While a handler that reads on works on what it has received: the caller's silence is no idleness then."""
    idleness = call().idleness
    return idleness.working() if idleness is not None else nullcontext()
