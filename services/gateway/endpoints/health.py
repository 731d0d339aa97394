"""``GET /health``: whether the gateway reaches the decoding room."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from palimpsest.errors import PalimpsestError, Unauthenticated
from services.gateway.calls import rooms_of


async def health(request: Request) -> Response:
    """200 where the room behind it answers, be it that the probe has no token; 503 where it does not."""
    try:
        await rooms_of(request).decoding.get_engine_info(timeout=5.0)
    except Unauthenticated:
        pass
    except PalimpsestError as error:
        return JSONResponse({"status": "unavailable", "reason": error.reason}, 503)
    return JSONResponse({"status": "ok"})
