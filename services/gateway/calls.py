"""What every endpoint asks of its request: the caller's rooms, and the settings."""

from starlette.requests import Request

from palimpsest.settings import GatewaySettings
from services.gateway.backend import Rooms


def rooms_of(request: Request) -> Rooms:
    """The rooms with the caller's token; the same ones for the whole request.

    Raises
    ------
    PalimpsestError
        As ``Backend.rooms`` does.
    """
    if not hasattr(request.state, "rooms"):
        backend = request.app.state.backend
        # Anthropic's clients send their key in a header of their own.
        authorization = request.headers.get("authorization")
        key = request.headers.get("x-api-key")
        if authorization is None and key:
            authorization = f"Bearer {key}"
        request.state.rooms = backend.rooms(authorization, request.state.request_id)
    return request.state.rooms


def settings_of(request: Request) -> GatewaySettings:
    """The gateway's settings."""
    return request.app.state.gateway
