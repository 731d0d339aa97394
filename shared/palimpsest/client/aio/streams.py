"""A server's stream of messages, as an iterator that stops the server when it is dropped."""

from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from palimpsest.client.aio.concurrency import LOCALLY_CANCELLED
from palimpsest.status import from_rpc_error

T = TypeVar("T")


class AsyncStream(Generic[T]):
    """Messages as they arrive. Closing it, leaving its ``with`` block or dropping it cancels the call.

    Raises
    ------
    PalimpsestError
        From iteration: what the server answered, or that it went away.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._messages = aiter(call)
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._closed:
            raise StopAsyncIteration
        try:
            return await anext(self._messages)
        except grpc.RpcError as error:
            if self._closed:
                raise StopAsyncIteration from None
            raise from_rpc_error(error) from None
        except LOCALLY_CANCELLED:
            if self._closed:
                raise StopAsyncIteration from None
            self.close()
            raise

    def close(self) -> None:
        """Cancel the call, if it is still going on; the server stops working on it."""
        self._closed = True
        self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
