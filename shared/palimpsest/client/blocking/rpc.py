"""Methods declared by their signature and documentation, and the base of the rooms that declare them."""

# Made from client/aio/rpc.py by deploy/client.py; edit that.

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar, cast

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from palimpsest.client.blocking.connection import Connection
from palimpsest.client.blocking.jobs import Job
from palimpsest.client.blocking.listing import Listing
from palimpsest.client.methods import Method
from palimpsest.client.requests import build, listed

F = TypeVar("F", bound=Callable[..., Any])


class Room:
    """Base of the rooms: the methods of one area of the contract."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


def rpc(full_name: str) -> Callable[[F], F]:
    """Turn a declared method, whose signature serves readers and type checkers, into the call itself."""
    method = Method.named(full_name)

    def decorate(declared: F) -> F:
        where = f"{declared.__name__}()"

        def send(self: Room, requests: Iterable[Message], *, timeout: float | None = None) -> Any:
            return self._connection.send(method, requests, timeout)

        def converse(self: Room, requests: Iterable[Message], *, timeout: float | None = None) -> Any:
            return self._connection.stream(method, requests, timeout)

        def stream(self: Room, *, timeout: float | None = None, **fields: object) -> Any:
            return self._connection.stream(method, build(method.request, fields, where), timeout)

        def start(self: Room, *, timeout: float | None = None, **fields: object) -> Any:
            request = build(method.request, fields, where)
            operation: operations_pb2.Operation = self._connection.unary(method, request, timeout)
            return Job(self._connection, operation)

        def unary(self: Room, *, timeout: float | None = None, **fields: object) -> Any:
            return self._connection.unary(method, build(method.request, fields, where), timeout)

        def pages(self: Room, *, timeout: float | None = None, **fields: object) -> Any:
            request = build(method.request, fields, where)

            def turn(token: str) -> Any:
                following = method.request()
                following.CopyFrom(request)
                following.page_token = token  # type: ignore[attr-defined]
                return self._connection.unary(method, following, timeout)

            first = self._connection.unary(method, request, timeout)
            return Listing(first, items.name, turn)

        items = listed(method.request.DESCRIPTOR, method.response.DESCRIPTOR)
        chosen: Callable[..., Any]
        if method.sends_stream and method.receives_stream:
            chosen = converse
        elif method.sends_stream:
            chosen = send
        elif method.receives_stream:
            chosen = stream
        elif items is not None:
            chosen = pages
        else:
            chosen = start if method.result is not None else unary
        return cast(F, wraps(declared)(chosen))

    return decorate
