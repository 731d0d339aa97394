"""Chunks decoded on a thread of their own, in the order in which they come, while the next ones are on their way."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.client.loading import ArrivingChunk, ChunkLoaded, Decision, Ended, Event
from palimpsest.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    PalimpsestError,
    Reason,
    Unimplemented,
)

if TYPE_CHECKING:
    from palimpsest.kv import CalibrationProfile, ChunkReader, KeyValues

ATTEMPTS = 3
"""Times that a chunk may arrive damaged."""

OnLayersReady = Callable[[ArrivingChunk, int], object]
"""Called on the decoding thread with a chunk and how many of its leading layers are final."""

Request = codec_pb2.LoadContextRequest


def load_codec() -> None:
    """Import and compile what decoding needs, which takes seconds the first time.

    Raises
    ------
    FailedPrecondition
        Only the client is installed.
    """
    try:
        import_module("palimpsest.kv.coding.ready").make_ready()
    except ModuleNotFoundError as missing:
        raise FailedPrecondition(
            Reason.SERVICES_MISSING,
            f"Caches are coded and decoded with {missing.name}, which is not installed here: "
            "pip install 'palimpsest-lm[models]'.",
        ) from None


class _Fed(NamedTuple):
    """Bytes of a chunk that wait to be decoded."""

    coming: "Coming"
    data: bytes
    last: bool


class Coming:
    """A chunk on its way, this time."""

    def __init__(self, decision: Decision, size: int) -> None:
        self.decision, self.size = decision, size
        self.received = 0
        self.decoding = 0.0  # seconds
        self.given_up = self.checked = False
        self.failure: PalimpsestError | None = None
        self.reader: ChunkReader | None = None


class Decoder:
    """Decodes the chunks of one load.

    Parameters
    ----------
    deliver
        Takes events, and the error that ends them; called on the decoding thread.
    report
        Takes requests for the server; likewise.
    threads
        Sections of a chunk that are decoded at once.
    on_layers_ready
        See ``OnLayersReady``.

    Attributes
    ----------
    context
        To be set before the first chunk: what chunks are checked against.
    profile
        To be filled with the context's calibration profile, or None where it has none; decoding waits for it.
    delivered
        Chunks delivered so far.
    missing
        Chunks that were rejected and have not begun to come again.
    land
        To be set before the first chunk: delivers a decoded chunk, on the decoding thread, and returns whether the load
        still wanted it.
    """

    land: Callable[[ChunkLoaded], bool]

    def __init__(
        self,
        deliver: Callable[[Event | BaseException], object],
        report: Callable[[Request], object],
        threads: int,
        on_layers_ready: OnLayersReady | None,
    ) -> None:
        self._deliver, self._report = deliver, report
        self._threads, self._on_layers_ready = threads, on_layers_ready
        self.context = codec_pb2.Context()
        self.profile: Future[CalibrationProfile | None] = Future()
        self.delivered = 0
        self.missing: set[int] = set()
        self._working: tuple[Coming, float] | None = None
        self._rejected: dict[int, int] = {}
        self._work: SimpleQueue[_Fed | Callable[[], None] | None] = SimpleQueue()
        self._held: _Fed | Callable[[], None] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="palimpsest-decode", daemon=True)
        self._thread.start()

    def feed(self, coming: Coming, data: bytes, last: bool) -> None:
        """Decode the next bytes of a chunk when their turn comes; never waits."""
        self._work.put(_Fed(coming, data, last))

    def finish(self, ended: Ended | None) -> None:
        """Deliver the end after everything else; None: the server ended without one."""
        self._work.put(partial(self._end, ended))

    def close(self) -> None:
        """Decode no further; nothing more is delivered."""
        self._closed = True
        self._work.put(None)
        self.profile.cancel()

    def spent(self, now: float) -> tuple[int, float] | None:
        """Return the chunk that is being decoded and the seconds that took so far; None: none is."""
        working = self._working
        if working is None:
            return None
        coming, since = working
        return coming.decision.chunk, coming.decoding + now - since

    def join(self) -> None:
        """Wait until the decoding thread has ended; after ``close``."""
        self._thread.join()

    def _run(self) -> None:
        while (work := self._next()) is not None and not self._closed:
            try:
                work()
            except BaseException as error:
                # Cancelled: closed while waiting for the profile.
                if not self._closed:
                    self._deliver(error)
                return

    def _next(self) -> Callable[[], None] | None:
        """The next work: of a chunk's data, all that waits, for many sections at once use the threads better."""
        work, self._held = (self._held, None) if self._held is not None else (self._work.get(), None)
        if not isinstance(work, _Fed):
            return work
        parts = [work]
        with suppress(Empty):
            while not parts[-1].last:
                following = self._work.get_nowait()
                if not isinstance(following, _Fed) or following.coming is not work.coming:
                    self._held = following or self._ended
                    break
                parts.append(following)
        data = b"".join(part.data for part in parts) if len(parts) > 1 else work.data
        return partial(self._feed, work.coming, data, parts[-1].last)

    @staticmethod
    def _ended() -> None:
        """Stands for the end of the queue while it is held back; by then the decoder is closed."""

    def _feed(self, coming: Coming, data: bytes, last: bool) -> None:
        if coming.given_up:
            return
        try:
            kv = self._advance(coming, data, last)
        # Damage to the first bytes of a chunk looks like another format.
        except (DataLoss, InvalidArgument, Unimplemented) as damage:
            coming.failure = damage
            if last and not coming.given_up:
                self._reject(coming.decision.chunk, damage)
            return
        if kv is None or self._closed or coming.given_up:
            return
        decision = coming.decision
        if self.land(ChunkLoaded(decision.chunk, decision.level, coming.size, kv, decision)):
            self.delivered += 1
            accepted = Request.Accepted(chunk=decision.chunk, seconds=coming.decoding)
            self._report(Request(accepted=accepted))

    def _advance(self, coming: Coming, data: bytes, last: bool) -> "KeyValues | None":
        """Decode what is complete; return the chunk after its last bytes."""
        if coming.failure is not None:
            raise coming.failure
        profile = self.profile.result()
        began = time.monotonic()
        self._working = coming, began
        try:
            return self._decode(coming, data, last, profile)
        finally:
            self._working = None
            coming.decoding += time.monotonic() - began

    def _decode(
        self, coming: Coming, data: bytes, last: bool, profile: "CalibrationProfile | None"
    ) -> "KeyValues | None":
        from palimpsest.kv import ChunkReader

        if coming.reader is None:
            coming.reader = ChunkReader(profile=profile, threads=self._threads)
        reader, index, level = coming.reader, coming.decision.chunk, coming.decision.level
        for layers in reader.feed(data):
            self._check(coming, reader)
            if self._closed or coming.given_up:
                return None
            if self._on_layers_ready is not None and reader.kv is not None:
                self._on_layers_ready(ArrivingChunk(index, level, reader.kv), layers)
        self._check(coming, reader)
        return reader.finish() if last else None

    def _check(self, coming: Coming, reader: "ChunkReader") -> None:
        """Reject a chunk whose model or text is not the one in the context's record."""
        if coming.checked or reader.header is None:
            return
        coming.checked = True
        meta, chunk = reader.header.meta, self.context.chunks[coming.decision.chunk]
        pairs = {
            "model": (meta.identity.model, self.context.model_fingerprint),
            "prefix": (meta.identity.prefix, chunk.prefix_digest),
            "start": (meta.start, chunk.start),
            "tokens": (meta.tokens, chunk.tokens),
        }
        for name, (found, expected) in pairs.items():
            if found != expected:
                raise FailedPrecondition(
                    Reason.KV_IDENTITY_MISMATCH,
                    f"A received chunk has a different {name} from its context; create the context again.",
                    metadata={"field": name, "found": found, "expected": expected},
                )

    def _reject(self, index: int, damage: PalimpsestError) -> None:
        self._rejected[index] = self._rejected.get(index, 0) + 1
        if self._rejected[index] >= ATTEMPTS:
            raise damage
        self.missing.add(index)
        self._report(Request(rejected=Request.Rejected(chunk=index)))

    def _end(self, ended: Ended | None) -> None:
        if ended is None or self.missing:
            raise DataLoss(
                Reason.KV_DAMAGED,
                f"The load ended before chunks {sorted(self.missing)} were complete; load the context again."
                if self.missing
                else "The load ended early; load the context again.",
            )
        self._deliver(ended)
