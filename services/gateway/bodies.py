"""Bodies of requests: read within limits, decoded, and every field known or refused by name."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from palimpsest import json_input
from services.gateway.errors import ApiError, bad, unsupported

B = TypeVar("B", bound="Body")


class Body(BaseModel):
    """Base of all bodies: a field that is not declared is refused, and none changes its type on the way."""

    model_config = ConfigDict(extra="forbid", strict=True)


async def read(request: Request, kind: type[B]) -> B:
    """The request's body; a field that is null counts as left out.

    Raises
    ------
    ApiError
        413: too large. 415: not JSON by its content type. 400: not a JSON object of these fields.
    """
    value = json_input_of(await raw(request, request.app.state.gateway.body_bytes))
    return checked(kind, value, request.url.path)


async def raw(request: Request, limit: int) -> bytes:
    """The bytes of a JSON body; raises as :func:`read`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(
            415,
            f"The body's content type is {kind or 'not given'}; send the header 'Content-Type: application/json'.",
            code="unsupported_media_type",
        )
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        f"The body is larger than {limit} bytes, the limit here (PALIMPSEST_GATEWAY_BODY_BYTES).",
        code="body_too_large",
    )


def json_input_of(body: bytes) -> dict[str, Any]:
    """Decode a body; raises as :func:`read`."""
    try:
        value = json_input.decode(body, max_bytes=len(body))
    except json_input.InvalidJson as error:
        raise ApiError(400, f"The body is not usable JSON: {error}.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise ApiError(400, "The body is not a JSON object.", code="invalid_json")
    return value


def checked(kind: type[B], value: dict[str, Any], where: str) -> B:
    """The fields as a body; raises as :func:`read`."""
    try:
        return kind.model_validate({name: each for name, each in value.items() if each is not None})
    except ValidationError as error:
        raise _refusal(error, where) from None


def _refusal(error: ValidationError, where: str) -> ApiError:
    """The answer for the first problem; a field that is not there at all goes before a wrong value."""
    problems = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    first = problems[0]
    param = _path(first["loc"])
    if first["type"] == "extra_forbidden":
        names = ", ".join(dict.fromkeys(_path(p["loc"]) for p in problems if p["type"] == "extra_forbidden"))
        return unsupported(param, f"{where} does not support {names}. Leave it out: it would be ignored.")
    if first["type"] == "missing":
        return bad(param, f"{param} is required.", "missing_required_parameter")
    alike = [p["msg"] for p in problems if _path(p["loc"]).startswith(param)]
    return bad(param, f"{param}: {'; or '.join(dict.fromkeys(alike))}.")


def _path(parts: tuple[int | str, ...]) -> str:
    """Where something is wrong, without pydantic's names of alternatives; keys of a caller's are cut short."""
    shown = ""
    for at, part in enumerate(parts):
        if isinstance(part, int):
            shown += f"[{part}]"
        elif at == 0 or (part.isidentifier() and part.islower() and part not in _KINDS):
            shown += f"{'.' if shown else ''}{part[:100]}"
    return shown


_KINDS = {"str", "int", "float", "bool", "dict", "list"}
