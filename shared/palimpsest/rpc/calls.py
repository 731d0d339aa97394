"""What a handler can find out about the call it serves."""

from contextvars import ContextVar
from dataclasses import dataclass


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
    """

    method: str
    principal: str
    request_id: str
    admin_jobs: bool = False


current: ContextVar[CallInfo] = ContextVar("palimpsest_call")


def call() -> CallInfo:
    """Return the call being served; outside of one, a local call without a name."""
    return current.get(CallInfo("", "local", ""))
