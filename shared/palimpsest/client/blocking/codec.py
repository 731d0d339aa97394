"""Contexts: stored, received chunk by chunk or loaded in one go, and the codec alone."""

# Made from client/aio/codec.py by deploy/client.py; edit that.

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.client.blocking.artifacts import Artifacts
from palimpsest.client.blocking.concurrency import off_loop
from palimpsest.client.blocking.connection import Connection
from palimpsest.client.blocking.loads import Receiving
from palimpsest.client.blocking.rooms import CodecRoom
from palimpsest.client.cache_assembler import CacheAssembler, Recompute
from palimpsest.client.decoder import OnLayersReady
from palimpsest.client.frames import (
    CHUNK_TOKENS,
    FRAME_BYTES,
    Levels,
    Numbers,
    as_key_values,
    frames_of,
    shape_of,
)
from palimpsest.client.loading import Event, LoadedContext
from palimpsest.client.requests import build

if TYPE_CHECKING:
    from palimpsest.kv import CalibrationProfile, KeyValues
    from palimpsest.kv.layout import DynamicCache

Settings = codec_pb2.LoadSettings | Mapping[str, object]
Coding = codec_pb2.Coding | Mapping[str, object]


class Codec(CodecRoom):
    """The codec: every RPC, and whole caches in and out."""

    def __init__(self, connection: Connection, artifacts: Artifacts) -> None:
        super().__init__(connection)
        self._artifacts = artifacts

    def context(self, name: str) -> codec_pb2.Context:
        """Return one context with all of its chunks, however many: ``get_context`` as often as it takes.

        Raises
        ------
        NotFound
            There is no such context.
        """
        found = self.get_context(name=name)
        while len(found.chunks) < found.chunk_count:
            more = self.get_context(name=name, first_chunk=len(found.chunks))
            if more.create_time != found.create_time:  # deleted and created anew in between
                found = self.get_context(name=name)
            else:
                found.chunks.extend(more.chunks)
        return found

    def receive(
        self,
        name: str,
        *,
        settings: Settings | None = None,
        model_fingerprint: str = "",
        chunks: int = 0,
        held_chunks: int = 0,
        window_bytes: int = 0,
        threads: int = 1,
        profile: "CalibrationProfile | None" = None,
        on_layers_ready: OnLayersReady | None = None,
        timeout: float | None = None,
    ) -> Receiving:
        """Receive a context chunk by chunk, for receivers that have a place for each chunk and may recompute some.

        Parameters
        ----------
        name, settings, model_fingerprint, chunks, held_chunks, window_bytes
            As in the contract (LoadContextRequest.Begin and LoadSettings).
        threads
            Sections of a chunk that are decoded at once.
        profile
            The context's calibration profile; by default fetched once and kept in the user's cache folder.
        on_layers_ready
            Called on the decoding thread, with an ``ArrivingChunk`` and the number of its leading layers that are
            final, each time that number grows.
        timeout
            Seconds until the whole load is given up.
        """
        fields = {
            "name": name,
            "settings": settings,
            "model_fingerprint": model_fingerprint,
            "chunks": chunks,
            "held_chunks": held_chunks,
            "window_bytes": window_bytes,
        }
        begin = build(codec_pb2.LoadContextRequest.Begin, fields, "receive()")
        return Receiving(
            self._connection,
            self._artifacts,
            begin,
            threads=threads,
            profile=profile,
            on_layers_ready=on_layers_ready,
            timeout=timeout,
        )

    def load(
        self,
        name: str,
        *,
        settings: Settings | None = None,
        recompute: Recompute | None = None,
        watch: Callable[[Event], object] | None = None,
        model_fingerprint: str = "",
        chunks: int = 0,
        window_bytes: int = 0,
        threads: int = 1,
        profile: "CalibrationProfile | None" = None,
        timeout: float | None = None,
    ) -> LoadedContext:
        """Load a context and return its whole cache.

        Parameters
        ----------
        recompute
            ``recompute(ids_before, kv_before, ids)`` prefills a chunk, or several in a row, and returns their keys
            and values; kv_before is None at the start of the context. It runs on a thread of its own, beside the
            transfer. ``settings.recompute`` says how long that takes. Without it everything is fetched.
        watch
            Called with each event as it happens.
        name, settings, model_fingerprint, chunks, window_bytes, threads, profile, timeout
            As in ``receive``.

        Raises
        ------
        PalimpsestError
            As iterating over ``receive`` does.
        DataLoss
            A chunk is damaged at every level and nothing can recompute it.
        """
        asked = build(codec_pb2.LoadContextRequest.Begin, {"settings": settings}, "load()").settings
        if recompute is None:
            asked.ClearField("recompute")
        receiving = self.receive(
            name,
            settings=asked,
            model_fingerprint=model_fingerprint,
            chunks=chunks,
            window_bytes=window_bytes,
            threads=threads,
            profile=profile,
            timeout=timeout,
        )
        with receiving as events:
            assembler = CacheAssembler(recompute, receiving.recomputed, receiving.fail)
            try:
                for event in events:
                    assembler.take(event)
                    if watch is not None:
                        watch(event)
                return off_loop(assembler.finish)
            finally:
                assembler.close()

    def put(
        self,
        *,
        model: str,
        tokens: Sequence[int],
        kv: "KeyValues | DynamicCache",
        context_id: str = "",
        coding: Coding | None = None,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> codec_pb2.Context:
        """Store a cache that was computed here.

        Parameters
        ----------
        model
            Model id at the server.
        tokens
            Ids of the context's tokens.
        kv
            Their keys and values: ``KeyValues`` from position 0, or a transformers ``DynamicCache`` (its first row).
        context_id, coding, labels
            As in the contract (PutContextRequest.Spec).
        timeout
            Seconds; by default as long as it takes.

        Raises
        ------
        InvalidArgument
            Shape, type or numbers that cannot be stored.
        FailedPrecondition
            The cache is not one of this model's.
        AlreadyExists
            The id is taken by another content.
        """
        cache = off_loop(as_key_values, kv)
        fields = {
            "model": model,
            "tokens": [int(token) for token in tokens],
            "shape": shape_of(cache),
            "context_id": context_id,
            "coding": coding,
            "labels": labels,
        }
        spec = build(codec_pb2.PutContextRequest.Spec, fields, "put()")
        chunk_tokens = spec.coding.chunk_tokens or CHUNK_TOKENS

        def parts() -> Iterator[codec_pb2.PutContextRequest]:
            yield codec_pb2.PutContextRequest(spec=spec)
            for frame in frames_of(cache, chunk_tokens):
                yield codec_pb2.PutContextRequest(data=frame)

        return self.put_context(parts(), timeout=timeout)

    def encode(
        self,
        kv: "KeyValues | DynamicCache",
        *,
        model: str = "",
        coding: Coding | None = None,
        timeout: float | None = None,
    ) -> dict[str, bytes]:
        """Encode one chunk at the server, which keeps nothing; return the bytes of each level.

        Parameters
        ----------
        kv
            The chunk.
        model, coding
            As in the contract (EncodeCacheRequest.Spec).
        timeout
            Seconds; by default as long as it takes.
        """
        cache = off_loop(as_key_values, kv)
        fields = {"shape": shape_of(cache), "model": model, "coding": coding}
        spec = build(codec_pb2.EncodeCacheRequest.Spec, fields, "encode()")

        def parts() -> Iterator[codec_pb2.EncodeCacheRequest]:
            yield codec_pb2.EncodeCacheRequest(spec=spec)
            for frame in frames_of(cache):
                yield codec_pb2.EncodeCacheRequest(data=frame)

        levels = Levels()
        with self.encode_cache(parts(), timeout=timeout) as stream:
            for part in stream:
                levels.take(part)
        return levels.finish()

    def decode(self, data: bytes, *, timeout: float | None = None) -> "KeyValues":
        """Decode one chunk at the server, which keeps nothing.

        Raises
        ------
        DataLoss
            The chunk is damaged or cut short.
        """

        def parts() -> Iterator[codec_pb2.DecodeCacheRequest]:
            for at in range(0, len(data), FRAME_BYTES):
                yield codec_pb2.DecodeCacheRequest(data=data[at : at + FRAME_BYTES])

        numbers = Numbers()
        with self.decode_cache(parts(), timeout=timeout) as stream:
            for part in stream:
                numbers.take(part)
        return off_loop(numbers.finish)
