"""One channel to a server: calls with deadlines in, messages or typed errors out."""

from collections.abc import AsyncIterable, Callable
from functools import wraps
from typing import Any, TypeVar, cast

import grpc
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from palimpsest.client.aio.jobs import AsyncJob
from palimpsest.client.aio.streams import AsyncStream
from palimpsest.client.methods import Method
from palimpsest.client.requests import build
from palimpsest.status import from_rpc_error
from palimpsest.telemetry.tracing import inject, span

F = TypeVar("F", bound=Callable[..., Any])


def trace_headers() -> tuple[tuple[str, str], ...]:
    """Return the current trace as call metadata."""
    return tuple(inject().items())


class AsyncConnection:
    """A channel and the deadline its calls get by default.

    Parameters
    ----------
    deadline
        Seconds, for calls that answer once; streams have none unless the caller gives one.
    """

    def __init__(self, channel: grpc.aio.Channel, deadline: float) -> None:
        self.channel = channel
        self.deadline = deadline
        self._callables: dict[str, Any] = {}

    def _callable(self, method: Method) -> Any:
        if method.path not in self._callables:
            kind = "_".join("stream" if s else "unary" for s in (method.sends_stream, method.receives_stream))
            self._callables[method.path] = getattr(self.channel, kind)(
                method.path, method.request.SerializeToString, method.response.FromString
            )
        return self._callables[method.path]

    async def unary(self, method: Method, request: Message, timeout: float | None = None) -> Any:
        """Call a method that answers once.

        The deadline is timeout seconds; by default what the contract allows at most, where it names
        something, else the connection's own.
        """
        limit = timeout if timeout is not None else method.seconds or self.deadline
        try:
            with span(method.path, kind="CLIENT"):
                return await self._callable(method)(request, timeout=limit, metadata=trace_headers())
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    def stream(
        self, method: Method, request: Message | AsyncIterable[Message], timeout: float | None = None
    ) -> AsyncStream[Any]:
        """Call a method that answers with a stream, to one request or to a stream of them."""
        with span(method.path, kind="CLIENT"):  # of the opening: the stream's life is the server's span
            return AsyncStream(self._callable(method)(request, timeout=timeout, metadata=trace_headers()))

    async def send(
        self, method: Method, requests: AsyncIterable[Message], timeout: float | None = None
    ) -> Any:
        """Call a method that takes a stream and answers once."""
        try:
            with span(method.path, kind="CLIENT"):
                return await self._callable(method)(requests, timeout=timeout, metadata=trace_headers())
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None


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

        chosen: Callable[..., Any]
        if method.sends_stream and method.receives_stream:
            chosen = converse
        elif method.sends_stream:
            chosen = send
        elif method.receives_stream:
            chosen = stream
        else:
            chosen = start if method.result is not None else unary
        return cast(F, wraps(declared)(chosen))

    return decorate
