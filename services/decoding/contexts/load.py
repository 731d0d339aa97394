"""One request's context on its way: its chunks come in from the codec room and go to the engine."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import structlog

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.aio.loads import AsyncReceiving
from palimpsest.client.loading import RECOMPUTE, ChunkLoaded, Event, Opened, RecomputeChunk
from palimpsest.engine import ChunkOrigin, ExternalPrefix, PrefixReady, Request
from palimpsest.errors import PalimpsestError, Reason, Unavailable
from services.decoding.convert import Call

_log = structlog.get_logger(__name__)

CACHED = "held"
"""What ContextLoaded reports as the level of a chunk that was still in memory."""


class ContextLoad:
    """One request's context while it is being loaded.

    Parameters
    ----------
    receiving
        The codec room's stream; None if every chunk is in the engine's cache.
    losses
        Losses of chunks that earlier requests loaded with the same settings; this load adds its own.
    began
        When the load began, on the monotonic clock.

    Attributes
    ----------
    request
        The engine's: the context's tokens, the prompt's, and the external prefix that this load feeds.
    """

    request: Request

    def __init__(self, receiving: AsyncReceiving | None, losses: dict[int, float], began: float) -> None:
        self.losses = losses
        self._receiving, self._began = receiving, began
        self._opened: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()
        self._attached = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._prefix: ExternalPrefix | None = None
        self._loaded: dict[int, tuple[str, int]] = {}

    async def begin(self, ended: "Callable[[asyncio.Task[None]], object]") -> Opened:
        """Start the load; returns once the token ids are known. ``ended`` is called when it is over."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(ended)
        return await self._opened

    def attach(
        self, stored: codec_pb2.Context, request: Request, ids: np.ndarray, salt: bytes, held: int
    ) -> None:
        """Make the engine's request, and pass it the chunks that arrive.

        Parameters
        ----------
        stored
            The context, with its chunks.
        request
            The engine's request for the prompt that follows it.
        ids
            The context's tokens, uint32.
        salt
            See :func:`salt_of`.
        held
            Leading chunks that are not loaded because they are cached; the engine recomputes those evicted since.
        """
        self._stored = stored
        prefix = ExternalPrefix(
            [chunk.tokens for chunk in stored.chunks], salt, partial(self._recomputed, held)
        )
        for index in range(held):
            prefix.recompute(index)
        self.request = replace(request, ids=[*ids.tolist(), *request.ids], prefix=prefix)
        self._prefix = prefix
        self._attached.set()

    def response(self, ready: PrefixReady, call: Call) -> pb.GenerateResponse:
        """How each chunk was loaded."""
        stored = self._stored
        by_level = {level.level: level.loss for level in stored.levels}
        chunks: list[pb.ContextLoaded.Chunk] = []
        lost = worst = 0.0
        for index, (chunk, origin) in enumerate(zip(stored.chunks, ready.origins, strict=True)):
            free = {ChunkOrigin.RECOMPUTED: (RECOMPUTE, 0), ChunkOrigin.CACHED: (CACHED, 0)}
            level, size = free.get(origin) or self._loaded[index]
            known = {e.level: e.loss if e.HasField("loss") else by_level[e.level] for e in chunk.encodings}
            if origin is ChunkOrigin.LOADED:
                self.losses[index] = known[level]
            elif origin is ChunkOrigin.RECOMPUTED:
                # Computed from the chunks before it, with whatever they have lost.
                self.losses[index] = worst
            if chunk.start + chunk.tokens > ready.exact_tokens:
                # The loss of a chunk that was loaded long ago is forgotten: assume the largest.
                own = self.losses.get(index, max(known.values()))
                worst = max(worst, own)
                lost += chunk.tokens * own
            chunks.append(pb.ContextLoaded.Chunk(tokens=chunk.tokens, level=level, bytes=size))
        loaded = pb.ContextLoaded(
            chunks=chunks,
            received_bytes=sum(size for _, size in self._loaded.values()),
            seconds=time.monotonic() - self._began,
            loss=lost / stored.token_count,
        )
        return pb.GenerateResponse(context=loaded)

    async def close(self) -> None:
        """End the load if it is still running."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _recomputed(self, held: int, index: int, seconds: float) -> None:
        if self._receiving is not None and index >= held:
            self._receiving.recomputed(index, seconds)

    async def _run(self) -> None:
        """Feed the engine; when the load ends, however it ends, the engine recomputes what has not arrived."""
        assert self._receiving is not None
        try:
            async with self._receiving as events:
                async for event in events:
                    await self._take(event)
        except PalimpsestError as error:
            if self._opened.done():
                _log.warning("the load of a context broke off; recomputing the rest", error=str(error))
            else:
                self._opened.set_exception(error)
        except Exception as error:
            _log.exception("the load of a context failed; recomputing the rest")
            if not self._opened.done():
                self._opened.set_exception(error)
        if not self._opened.done():
            gone = Unavailable(
                Reason.LOAD_ABANDONED, "The codec room ended the load before it began. Retry the request."
            )
            self._opened.set_exception(gone)
        if self._prefix is not None:
            self._prefix.recompute_rest()

    async def _take(self, event: Event) -> None:
        if isinstance(event, Opened):
            if not self._opened.done():
                self._opened.set_result(event)
            await self._attached.wait()
            return
        assert self._prefix is not None
        if isinstance(event, ChunkLoaded):
            self._loaded[event.index] = (event.level, event.size_bytes)
            taken = self._prefix.arrived(event.index, event.kv.keys, event.kv.values)
            # Backpressure: no further chunk is taken until the engine has copied this one.
            await asyncio.wrap_future(taken)
        elif isinstance(event, RecomputeChunk):
            self._prefix.recompute(event.index)


def salt_of(stored: codec_pb2.Context, asked: codec_pb2.LoadSettings) -> bytes:
    """Identify the approximation that a load gives: the context, when it was made, and the requested quality."""
    made = stored.create_time
    quality = codec_pb2.LoadSettings(
        mode=asked.mode,
        deadline_seconds=asked.deadline_seconds,
        loss_budget=asked.loss_budget,
        levels=asked.levels,
    )
    identity = [stored.name, stored.model_fingerprint, stored.prefix_digest, stored.codec, stored.profile]
    text = "\0".join([*identity, f"{made.seconds}.{made.nanos:09}"]).encode()
    return hashlib.blake2b(text + quality.SerializeToString(deterministic=True), digest_size=16).digest()
