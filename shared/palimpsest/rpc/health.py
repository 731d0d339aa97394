"""Asking a server whether it serves, with nothing installed but grpc itself."""

import grpc

from palimpsest.errors import DeadlineExceeded, Reason, Unavailable
from palimpsest.rpc.channel import Tls, open_channel
from palimpsest.status import from_rpc_error

_SERVING = b"\x08\x01"
"""A grpc.health.v1.HealthCheckResponse whose status is SERVING; the messages are too small to need a stub."""


def serving(target: str, *, timeout: float = 2.0, token: str | None = None, tls: Tls | None = None) -> bool:
    """Return whether a server answers at target and reports SERVING.

    Raises
    ------
    PalimpsestError
        The server answers something else than a health status: it is no server of ours, or refuses us.
    """
    try:
        check(target, timeout=timeout, token=token, tls=tls)
    except (Unavailable, DeadlineExceeded):
        return False
    return True


def check(target: str, *, timeout: float = 2.0, token: str | None = None, tls: Tls | None = None) -> None:
    """Return if a server at target reports SERVING.

    Raises
    ------
    Unavailable
        Nothing answers, or it is not serving.
    """
    with open_channel(target, token=token, tls=tls) as channel:
        ask = channel.unary_unary(
            "/grpc.health.v1.Health/Check", request_serializer=bytes, response_deserializer=bytes
        )
        try:
            answer = ask(b"", timeout=timeout)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
    if answer != _SERVING:
        raise Unavailable(Reason.SHUTTING_DOWN, f"The server at {target} answers but does not serve now.")
