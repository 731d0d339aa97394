"""What a handler may ask about the call it serves."""

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
        Name the token belongs to; ``"local"`` where no token is asked for.
    request_id
        The caller's ``x-request-id``, or one made here; in every log line and error of the call.
    """

    method: str
    principal: str
    request_id: str


current: ContextVar[CallInfo] = ContextVar("palimpsest_call")


def call() -> CallInfo:
    """Return the call being served; outside one, a nameless local call."""
    return current.get(CallInfo("", "local", ""))
