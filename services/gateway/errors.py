"""Errors in OpenAI's form: ``{"error": {"message", "type", "param", "code"}}``, whoever found them."""

import math
from typing import Any

from starlette.responses import JSONResponse

from palimpsest.errors import Code, PalimpsestError, Reason

_STATUS = {
    Code.CANCELLED: 503,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 400,  # a 409 is sent again by clients, and would never succeed
    Code.PERMISSION_DENIED: 403,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
_BUSY = {Reason.TOO_MANY_REQUESTS, Reason.QUOTA_EXCEEDED, Reason.ENGINE_QUEUE_FULL, Reason.JOB_QUEUE_FULL}
_CODES = {
    Reason.MODEL_NOT_FOUND: "model_not_found",
    # Not OpenAI's context_length_exceeded: Inspect makes a reply of that, whose text it then scores.
    Reason.PROMPT_TOO_LONG: "prompt_too_long",
    Reason.TOKEN_MISSING: "invalid_api_key",
    Reason.TOKEN_INVALID: "invalid_api_key",
    Reason.SETTING_UNSUPPORTED: "unsupported_field",
    Reason.INVALID_REQUEST: "invalid_value",
}
_PARAMS = {
    "ids": "tokens",
    "model_id": "model",
    "structured": "response_format",
    "chat": "messages",
    "texts": "input",
}
"""Fields of the contract that have another name over HTTP."""


class ApiError(Exception):
    """An answer that is an error.

    Parameters
    ----------
    status
        Of HTTP.
    message
        What is wrong and what to do.
    code
        For programs.
    param
        The field of the request that is wrong.
    retry_after
        Seconds after which the same request may succeed.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        error = {
            "message": self.message,
            "type": _type(self.status),
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}

    def response(self) -> JSONResponse:
        """The answer."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def bad(param: str, message: str, code: str = "invalid_value") -> ApiError:
    """A 400 about one field."""
    return ApiError(400, message, code=code, param=param)


def unsupported(param: str, why: str) -> ApiError:
    """A 400 about a field, or a value of it, that is not supported here: it is never ignored."""
    return bad(param, why, "unsupported_field")


def from_rooms(error: PalimpsestError) -> ApiError:
    """The answer for what a room said, or the way to it."""
    status, retry_after, reason = _STATUS.get(Code(error.code), 500), error.retry_after, error.reason
    if error.code == Code.RESOURCE_EXHAUSTED:
        # What only another request can mend is not to be sent again.
        status = 429 if retry_after is not None or error.reason in _BUSY else 400
        retry_after = retry_after if retry_after is not None or status != 429 else 1.0
    if status == 503 and retry_after is None:
        retry_after = 1.0
    param = _param(error.violations[0].field) if error.violations else None
    details = [v.description for v in error.violations if v.description not in error.message]
    message = " ".join([error.message, *(f"{_param(v.field)}: {v.description}." for v in error.violations)])
    if error.reason == Reason.MODEL_NOT_FOUND or (param == "model" and status == 400):
        status, param, reason = 404, "model", Reason.MODEL_NOT_FOUND
    return ApiError(
        status,
        message if details else error.message,
        code=_CODES.get(reason, reason.lower() or None),  # type: ignore[call-overload]
        param=param,
        retry_after=retry_after,
    )


def _param(field: str) -> str:
    """A field of the contract as it is called over HTTP: ``sampling.top_p`` is ``top_p``."""
    head, _, rest = field.partition(".")
    if head in ("sampling", "chat", "nest") and rest:
        return rest
    return _PARAMS.get(head, head) + (f".{rest}" if rest else "")


def _type(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 403:
        return "permission_error"
    if status == 404:
        return "not_found_error"
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
