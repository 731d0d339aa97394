"""Methods declared by their signature and documentation, and the base of the rooms that declare them."""

from collections.abc import AsyncIterable, Callable
from functools import wraps
from typing import Any, TypeVar, cast

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.client.aio.jobs import AsyncJob
from palimpsest.client.aio.listing import AsyncListing
from palimpsest.client.methods import Method
from palimpsest.client.requests import build, listed

F = TypeVar("F", bound=Callable[..., Any])


class AsyncRoom:
    """Base of the rooms: the methods of one area of the contract."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection


def rpc(full_name: str) -> Callable[[F], F]:
    """Turn a declared method, whose signature serves readers and type checkers, into the call itself."""
    method = Method.named(full_name)

    def decorate(declared: F) -> F:
        where = f"{declared.__name__}()"

        async def send(
            self: AsyncRoom, requests: AsyncIterable[Message], *, timeout: float | None = None
        ) -> Any:
            return await self._connection.send(method, requests, timeout)

        def converse(
            self: AsyncRoom, requests: AsyncIterable[Message], *, timeout: float | None = None
        ) -> Any:
            return self._connection.stream(method, requests, timeout)

        def stream(self: AsyncRoom, *, timeout: float | None = None, **fields: object) -> Any:
            return self._connection.stream(method, build(method.request, fields, where), timeout)

        async def start(self: AsyncRoom, *, timeout: float | None = None, **fields: object) -> Any:
            request = build(method.request, fields, where)
            operation: operations_pb2.Operation = await self._connection.unary(method, request, timeout)
            return AsyncJob(self._connection, operation)

        async def unary(self: AsyncRoom, *, timeout: float | None = None, **fields: object) -> Any:
            return await self._connection.unary(method, build(method.request, fields, where), timeout)

        async def pages(self: AsyncRoom, *, timeout: float | None = None, **fields: object) -> Any:
            request = build(method.request, fields, where)

            async def turn(token: str) -> Any:
                following = method.request()
                following.CopyFrom(request)
                following.page_token = token  # type: ignore[attr-defined]
                return await self._connection.unary(method, following, timeout)

            first = await self._connection.unary(method, request, timeout)
            return AsyncListing(first, items.name, turn)

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
