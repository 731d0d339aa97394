"""A server's stream of messages, as an iterator that stops the server when it is dropped."""

# Made from client/aio/streams.py by deploy/client.py; edit that.

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from palimpsest.client.blocking.concurrency import LOCALLY_CANCELLED
from palimpsest.status import from_rpc_error

T = TypeVar("T")


class Outgoing(Generic[T]):
    """A caller's requests on their way out, and what went wrong while they were made.

    gRPC would log such an error, and end the call with one that says nothing of it.

    Attributes
    ----------
    failure
        What the caller's own code raised; None while nothing did.
    call
        The call to cancel then; while it is not known, gRPC ends it.
    sent
        Requests handed over so far.
    """

    def __init__(self, requests: Iterable[T]) -> None:
        self.failure: Exception | None = None
        self.call: Any = None
        self.sent = 0
        self._requests = requests

    def __iter__(self) -> Iterator[T]:
        try:
            for request in self._requests:
                self.sent += 1
                yield request
        except Exception as error:
            self.failure = error
            if self.call is None:
                raise
            self.call.cancel()


class Stream(Generic[T]):
    """Messages as they arrive. Closing it, leaving its ``with`` block or dropping it cancels the call.

    Raises
    ------
    PalimpsestError
        From iteration: what the server answered, or that it went away.
    Exception
        From iteration: what the caller's own requests raised while they were sent.
    """

    def __init__(self, call: Any, outgoing: Outgoing[Any] | None = None) -> None:
        self._call = call
        self._outgoing = outgoing
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
            raise self._cause() or from_rpc_error(error) from None
        except LOCALLY_CANCELLED:
            if self._closed:
                raise StopIteration from None
            if (cause := self._cause()) is not None:
                raise cause from None
            self.close()
            raise

    def _cause(self) -> Exception | None:
        return self._outgoing.failure if self._outgoing is not None else None

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
