"""The messages of one call, between gRPC and the handler: parsed, validated, waited for.

Every method is mounted as one that takes a stream. gRPC would read the request of a unary call before anything of ours
runs: a caller who begins a call and sends nothing would hold one of the server's places, and no limit would see it.
"""

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.rpc.answers import checked
from palimpsest.rpc.auth import access_of
from palimpsest.rpc.idleness import Idleness
from palimpsest.rpc.validation import validate

Received = Callable[[bytes], None]
Begins = Callable[[], None]


class Exchange:
    """How calls of one method talk to its handler.

    Parameters
    ----------
    method
        Full name.
    handler
        As its servicer mounted it.
    """

    def __init__(self, method: str, handler: Any) -> None:
        self._method = method
        self._handler = handler
        self._inner = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        self._silent = access_of(method).silent

    @property
    def streams(self) -> bool:
        """Whether either side sends more than one message."""
        return bool(self._handler.request_streaming or self._handler.response_streaming)

    def mounted(self, serve: Callable[[Any, Any], Any]) -> grpc.RpcMethodHandler:
        """Return what gRPC mounts instead: ``serve`` with the messages as bytes."""
        make = (
            grpc.stream_stream_rpc_method_handler
            if self._handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(serve, request_deserializer=None, response_serializer=self._handler.response_serializer)

    async def run(
        self,
        raw: AsyncIterator[bytes],
        context: Any,
        received: Received,
        begins: Begins,
        idleness: Idleness,
    ) -> Any:
        """Run the handler; return the response of a method that answers once.

        Parameters
        ----------
        raw
            The caller's messages.
        context
            Of the call.
        received
            Called with each message before it is parsed.
        begins
            Called for each valid message, before the handler can act on it.
        idleness
            Told while the caller is waited for.

        Raises
        ------
        InvalidArgument
            MALFORMED_MESSAGE, or a field is outside its limits.
        """

        async def messages() -> AsyncIterator[Message]:
            silent = False  # a caller who has not even said what the call is about has no reason to wait
            while True:
                with contextlib.nullcontext() if silent else idleness.waiting():
                    body = await anext(raw, None)
                if body is None:
                    return
                silent = self._silent
                received(body)
                message = self._parse(body)
                begins()
                yield message

        requests = messages()
        request: Any = requests if self._handler.request_streaming else await self._only(requests)
        outcome = self._inner(request, context)
        if not inspect.isasyncgen(outcome):
            return checked(await outcome)
        async with contextlib.aclosing(outcome):  # when the caller leaves, the handler must not go on waiting
            async for message in outcome:
                # A stream whose caller takes nothing cannot be ended from here, as its status would wait behind the
                # message: it keeps its place, which is of the caller's share, for as long as its connection lives.
                with idleness.working():
                    await context.write(checked(message))

    async def _only(self, requests: AsyncIterator[Message]) -> Message:
        async for request in requests:
            return request
        raise InvalidArgument(
            Reason.MALFORMED_MESSAGE, f"The call of {self._method} ended without a request."
        )

    def _parse(self, body: bytes) -> Message:
        try:
            message = self._handler.request_deserializer(body)
        except (DecodeError, UnicodeDecodeError, ValueError) as error:
            raise InvalidArgument(
                Reason.MALFORMED_MESSAGE,
                "The request is not a valid message of this method: damaged, of another type, or text that is not "
                "UTF-8.",
            ) from error
        validate(message)
        return message
