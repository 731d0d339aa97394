"""Receiving a context: a load's events as they happen, its receipts sent by themselves."""

# Made from client/aio/loads.py by deploy/client.py; edit that.

import time
from collections.abc import Iterator
from concurrent.futures import InvalidStateError
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.client import profiles
from palimpsest.client.blocking.artifacts import Artifacts
from palimpsest.client.blocking.concurrency import Background, Mailbox, abandon, background, join, off_loop
from palimpsest.client.blocking.connection import Connection
from palimpsest.client.blocking.streams import Stream
from palimpsest.client.decoder import Decoder, OnLayersReady, load_codec
from palimpsest.client.load_receiver import LoadReceiver
from palimpsest.client.loading import ChunkLoaded, Ended, Event
from palimpsest.client.methods import Method
from palimpsest.client.patience import transient
from palimpsest.errors import PalimpsestError, Reason

if TYPE_CHECKING:
    from palimpsest.kv import CalibrationProfile

_LOAD = Method.named("palimpsest.api.codec.v1.CodecService.LoadContext")
BACKLOG = 8
"""Decoded chunks that may wait for the caller; the load pauses until the caller takes one."""


class _Wake:
    """Stands in the mailbox for something that may change how long the receiver waits."""


Request = codec_pb2.LoadContextRequest


class Receiving:
    """A context on its way; iterate over its events. Use it as a context manager: leaving it early ends the load.

    The events are ``Opened``, then ``ChunkLoaded``, ``RecomputeChunk`` and ``Abandoned`` as they happen, and ``Ended``.
    Chunks are decoded on a thread of their own, and what has arrived is reported to the server at once, whatever the
    caller does; only when several decoded chunks wait to be taken does the load wait too.

    A caller that can recompute (``settings.recompute``) is meant to get everything no later than by recomputing alone,
    but for a small share: where the stream or the decoder is slower than that, ``RecomputeChunk`` comes without the
    server, and if the connection breaks it comes for all that is missing.

    Raises
    ------
    NotFound
        From iteration, as the other errors: no such context, or its calibration profile is gone.
    FailedPrecondition
        It belongs to another model than was asked for, a chunk is not the one its record describes, or only the
        client is installed here, without what decodes.
    DataLoss
        A chunk keeps arriving damaged.
    Unavailable
        The server went away, and the caller cannot recompute.
    """

    def __init__(
        self,
        connection: Connection,
        artifacts: Artifacts,
        begin: Request.Begin,
        *,
        threads: int,
        profile: "CalibrationProfile | None",
        on_layers_ready: OnLayersReady | None,
        timeout: float | None,
    ) -> None:
        self._connection, self._artifacts, self._begin = connection, artifacts, begin
        self._threads, self._profile, self._on_layers_ready = threads, profile, on_layers_ready
        self._timeout = timeout
        self._reading: Background | None = None
        self._fetching: Background | None = None
        self._counted = 0
        self._closed = False

    def recomputed(self, index: int, seconds: float) -> None:
        """Tell the server that a chunk it ordered is recomputed, and how long that took; from any thread."""
        self._receiver.recomputed(index, seconds)
        self._events.put(_Wake())

    def fail(self, error: BaseException) -> None:
        """End the load with an error of the caller's own, raised from iteration; from any thread."""
        self._events.put(error)

    def close(self) -> None:
        """End the load if it is still going on; its threads end by themselves."""
        if self._closed:
            return
        self._closed = True
        if self._reading is None:
            return
        self._stream.close()
        self._decoder.close()
        if self._fetching is not None:
            abandon(self._fetching)
        self._requests.put(None)
        self._taken.put(None)
        self._events.put(None)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self._reading is not None:
            join(self._reading)
            off_loop(self._decoder.join)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        self._start()
        event = None if self._closed else self._next()
        if event is None or self._closed:
            raise StopIteration
        if isinstance(event, BaseException):
            self.close()
            raise event
        if isinstance(event, ChunkLoaded):
            self._taken.put(None)
        elif isinstance(event, Ended):
            self.close()
        return event

    def _next(self) -> Event | BaseException | None:
        """The next event, of the stream or of the receiver's own accord."""
        while True:
            try:
                event = self._events.get(self._receiver.wait(time.monotonic()))
            except TimeoutError:
                self._receiver.go_on(time.monotonic())
                if self._receiver.left:
                    self._stream.close()
                continue
            if not isinstance(event, _Wake):
                return event

    def _start(self) -> None:
        if self._reading is not None or self._closed:
            return
        off_loop(load_codec)  # before the load's time begins to count
        self._events: Mailbox[Event | BaseException | _Wake | None] = Mailbox()
        self._requests: Mailbox[Request | None] = Mailbox()
        self._taken: Mailbox[None] = Mailbox()
        self._decoder = Decoder(self._events.put, self._requests.put, self._threads, self._on_layers_ready)
        self._receiver = LoadReceiver(self._events.put, self._requests.put, self._decoder, self._begin)
        self._stream: Stream[codec_pb2.LoadContextResponse] = self._connection.stream(
            _LOAD, self._outgoing(), self._timeout
        )
        self._reading = background(self._read)

    def _outgoing(self) -> Iterator[Request]:
        yield Request(begin=self._begin)
        while (request := self._requests.get()) is not None:
            yield request

    def _read(self) -> None:
        try:
            for message in self._stream:
                if message.HasField("chunk"):
                    self._room()
                self._receiver.take(message, time.monotonic())
                if message.HasField("opened"):
                    self._prepare(message.opened.context.profile)
                elif message.HasField("ended"):
                    self._requests.put(None)
            self._receiver.finish()
        except Exception as error:
            self._broken(error)

    def _room(self) -> None:
        """Wait until not too many decoded chunks are waiting to be taken."""
        while self._decoder.delivered - self._counted >= BACKLOG and not self._closed:
            self._taken.get()
            self._counted += 1

    def _prepare(self, digest: str) -> None:
        """Fetch the decoder's profile; chunks that arrive meanwhile wait for it."""
        if self._profile is not None or not digest:
            self._decoder.profile.set_result(self._profile)
        else:
            self._fetching = background(self._fetch, digest)

    def _fetch(self, digest: str) -> None:
        try:
            profile = off_loop(profiles.find, digest)
            if profile is None:
                data = self._artifacts.read_bytes(digest)
                profile = off_loop(profiles.keep, digest, data)
            with suppress(InvalidStateError):  # closed meanwhile
                self._decoder.profile.set_result(profile)
        except PalimpsestError as error:
            self._broken(error)

    def _broken(self, error: Exception) -> None:
        """Go on without a connection that is gone, if that is possible; any other error is the caller's."""
        gone = isinstance(error, PalimpsestError) and (
            transient(error) or error.reason == Reason.LOAD_ABANDONED
        )
        if gone and self._receiver.leave(time.monotonic()):
            self._events.put(_Wake())
        else:
            self._events.put(error)
