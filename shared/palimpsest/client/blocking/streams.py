"""A server's stream of messages, as an iterator that stops the server when it is dropped."""

# Made from client/aio/streams.py by deploy/client.py; edit that.

from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from palimpsest.client.blocking.concurrency import LOCALLY_CANCELLED
from palimpsest.status import from_rpc_error

T = TypeVar("T")


class Stream(Generic[T]):
    """Messages as they arrive. Closing it, leaving its ``with`` block or dropping it cancels the call.

    Raises
    ------
    PalimpsestError
        From iteration: what the server answered, or that it went away.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._messages = iter(call)
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._closed:
            raise StopIteration
        try:
            return next(self._messages)
        except grpc.RpcError as error:
            if self._closed:
                raise StopIteration from None
            raise from_rpc_error(error) from None
        except LOCALLY_CANCELLED:
            if self._closed:
                raise StopIteration from None
            self.close()
            raise

    def close(self) -> None:
        """Cancel the call, if it is still going on; the server stops working on it."""
        self._closed = True
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
