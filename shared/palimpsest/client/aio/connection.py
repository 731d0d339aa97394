"""One channel to a server: calls with deadlines in, messages or typed errors out."""

from collections.abc import AsyncIterable, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from palimpsest.client.aio.concurrency import LOCALLY_CANCELLED
from palimpsest.client.aio.streams import AsyncOutgoing, AsyncStream
from palimpsest.client.methods import Method
from palimpsest.status import from_rpc_error
from palimpsest.telemetry.tracing import inject, span


def trace_headers() -> tuple[tuple[str, str], ...]:
    """Return the current trace as call metadata."""
    return tuple(inject().items())


class AsyncConnection:
    """A channel and the deadline its calls get by default.

    Parameters
    ----------
    deadline
        Seconds, for calls that answer once; streams have none unless the caller gives one.
    metadata
        Sent with every call.
    """

    def __init__(
        self, channel: grpc.aio.Channel, deadline: float, metadata: Sequence[tuple[str, str | bytes]] = ()
    ) -> None:
        self.channel = channel
        self.deadline = deadline
        self._metadata = tuple(metadata)
        self._callables: dict[str, Any] = {}

    def _headers(self) -> tuple[tuple[str, str | bytes], ...]:
        return (*self._metadata, *trace_headers())

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
                return await self._callable(method)(request, timeout=limit, metadata=self._headers())
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    def stream(
        self, method: Method, request: Message | AsyncIterable[Message], timeout: float | None = None
    ) -> AsyncStream[Any]:
        """Call a method that answers with a stream, to one request or to a stream of them."""
        with span(method.path, kind="CLIENT"):  # of the opening: the stream's life is the server's span
            if isinstance(request, Message):
                return AsyncStream(self._callable(method)(request, timeout=timeout, metadata=self._headers()))
            outgoing = AsyncOutgoing(request)
            call = self._callable(method)(aiter(outgoing), timeout=timeout, metadata=self._headers())
            outgoing.call = call
            return AsyncStream(call, outgoing)

    async def send(
        self, method: Method, requests: AsyncIterable[Message], timeout: float | None = None
    ) -> Any:
        """Call a method that takes a stream and answers once."""
        outgoing = AsyncOutgoing(requests)
        try:
            with span(method.path, kind="CLIENT"):
                return await self._callable(method)(
                    aiter(outgoing), timeout=timeout, metadata=self._headers()
                )
        except grpc.RpcError as error:
            raise outgoing.failure or from_rpc_error(error) from None
        except LOCALLY_CANCELLED:
            if outgoing.failure is not None:
                raise outgoing.failure from None
            raise
