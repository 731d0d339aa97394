"""Generation that continues a stored context: its chunks streamed in from the codec room and fed to the engine."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import structlog

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.client import profiles
from palimpsest.client.aio.artifacts import AsyncArtifacts
from palimpsest.client.aio.codec import AsyncCodec
from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.client.aio.loads import AsyncReceiving
from palimpsest.client.loading import RECOMPUTE, ChunkLoaded, Event, Opened, RecomputeChunk
from palimpsest.engine import ChunkOrigin, ExternalPrefix, Hosted, PrefixReady, Request
from palimpsest.errors import FailedPrecondition, PalimpsestError, Reason, Unavailable
from palimpsest.lm.blocks import BLOCK
from palimpsest.lru import LruCache

if TYPE_CHECKING:
    from palimpsest.kv import CalibrationProfile

_log = structlog.get_logger(__name__)

CACHED = "held"

_REMEMBERED = 64
"""Contexts of which token ids and losses are kept: some hundred kilobytes each at most."""


class ContextLoader:
    """Opens contexts for requests, and remembers what it needs to find them in memory the next time.

    Parameters
    ----------
    artifacts
        Calibration profiles are read from here where the codec room shares it.
    """

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._ids: LruCache[str, np.ndarray] = LruCache(_REMEMBERED)
        self._losses: LruCache[bytes, dict[int, float]] = LruCache(_REMEMBERED)
        self._under_way = 0

    async def open(
        self, message: pb.GenerateRequest, request: Request, hosted: Hosted, connection: AsyncConnection
    ) -> "ContextLoad":
        """Begin to load a context and wait until its tokens are known.

        Parameters
        ----------
        message
            Names the context and says how to load it.
        request
            What follows the context.
        hosted
            The model.
        connection
            To the codec room, as the caller may use it.

        Raises
        ------
        NotFound
            No such context.
        FailedPrecondition
            It belongs to another model.
        PalimpsestError
            Whatever else the codec room says before the load has begun.
        """
        began = time.monotonic()
        codec = AsyncCodec(connection, AsyncArtifacts(connection))
        stored = await codec.get_context(name=message.context)
        _check_model(stored, hosted.record.fingerprint)
        salt = salt_of(stored, message.context_load)
        ids, held = self._ids.get(stored.prefix_digest), 0
        if ids is not None:
            held = _held_chunks(stored, await asyncio.to_thread(hosted.engine.held, ids.tolist(), salt))
        receiving = None
        if ids is None or held < len(stored.chunks):
            settings = await self._settings(message.context_load, stored, request, hosted)
            receiving = codec.receive(
                stored.name,
                settings=settings,
                model_fingerprint=hosted.record.fingerprint,
                held_chunks=held,
                profile=await asyncio.to_thread(self._profile, stored.profile),
            )
        load = ContextLoad(receiving, self._losses.setdefault(salt, {}), began)
        try:
            if receiving is not None:
                self._under_way += 1
                opened = await load.begin(self._ended)
                if opened.context.create_time != stored.create_time:
                    # Made again meanwhile; what was held of it no longer is, and the engine recomputes that.
                    _check_model(opened.context, hosted.record.fingerprint)
                    stored, ids = opened.context, opened.token_ids
                    salt = salt_of(stored, message.context_load)
                    load.losses = self._losses.setdefault(salt, {})
                ids = self._ids.setdefault(stored.prefix_digest, opened.token_ids)
            assert ids is not None
            load.attach(stored, request, ids, salt, held)
        except BaseException:
            await load.close()
            raise
        return load

    def _ended(self, _task: "asyncio.Task[None]") -> None:
        self._under_way -= 1

    async def _settings(
        self, asked: codec_pb2.LoadSettings, stored: codec_pb2.Context, request: Request, hosted: Hosted
    ) -> codec_pb2.LoadSettings:
        """What the caller asks for, with what the engine knows better."""
        settings, engine = codec_pb2.LoadSettings(), hosted.engine
        settings.CopyFrom(asked)
        if not settings.recompute:
            for tokens, seconds in await asyncio.to_thread(engine.prefill_curve):
                settings.recompute.add(tokens=tokens, seconds=seconds)
        settings.sharers = settings.sharers or self._under_way + 1
        if not settings.tail_seconds:
            tokens = stored.token_count
            settings.tail_seconds = engine.costs.prefill(tokens, tokens + len(request.ids))
        return settings

    def _profile(self, digest: str) -> "CalibrationProfile | None":
        """The calibration profile, from our own store if it is there; the client fetches it otherwise."""
        if not digest:
            return None
        try:
            return profiles.find(digest) or profiles.keep(digest, self._artifacts.read_bytes(digest))
        except PalimpsestError:
            return None


class ContextLoad:
    """One request's context on its way.

    Parameters
    ----------
    receiving
        The load; None where everything is held already.
    losses
        Of the chunks that earlier requests loaded in the same way; added to.
    began
        When, on the monotonic clock.

    Attributes
    ----------
    request
        For the engine: the context's tokens, the prompt's, and the past that this load feeds.
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
        """Start the load; returns once the token ids are there. ``ended`` is called when it is over."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(ended)
        return await self._opened

    def attach(
        self, stored: codec_pb2.Context, request: Request, ids: np.ndarray, salt: bytes, held: int
    ) -> None:
        """Make the engine's request, and let what arrives go to it.

        Parameters
        ----------
        stored
            The context, with its chunks.
        request
            What follows it.
        ids
            The context's tokens, uint32.
        salt
            See :func:`salt_of`.
        held
            Leading chunks that are not loaded, as they are in memory; the engine recomputes what is not, after all.
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

    def response(self, ready: PrefixReady) -> pb.GenerateResponse:
        """What became of each chunk."""
        stored = self._stored
        by_level = {level.level: level.loss for level in stored.levels}
        chunks: list[pb.ContextLoaded.Chunk] = []
        lost = 0.0
        for index, (chunk, how) in enumerate(zip(stored.chunks, ready.how, strict=True)):
            free = {ChunkOrigin.RECOMPUTED: (RECOMPUTE, 0), ChunkOrigin.CACHED: (CACHED, 0)}
            level, size = free.get(how) or self._loaded[index]
            if how is ChunkOrigin.LOADED:
                self.losses[index] = by_level[level]
            if how is not ChunkOrigin.RECOMPUTED and chunk.start + chunk.tokens > ready.exact_tokens:
                # Not known any more for what was loaded long ago: then as bad as it may have been.
                lost += chunk.tokens * self.losses.get(index, max(by_level.values()))
            chunks.append(pb.ContextLoaded.Chunk(tokens=chunk.tokens, level=level, bytes=size))
        loaded = pb.ContextLoaded(
            chunks=chunks,
            received_bytes=sum(size for _, size in self._loaded.values()),
            seconds=time.monotonic() - self._began,
            loss=lost / stored.token_count,
        )
        return pb.GenerateResponse(context=loaded)

    async def close(self) -> None:
        """End the load if it is still going on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _recomputed(self, held: int, index: int, seconds: float) -> None:
        if self._receiving is not None and index >= held:
            self._receiving.recomputed(index, seconds)

    async def _run(self) -> None:
        """Feed the engine; whatever ends the load, what has not arrived by then is recomputed."""
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
                Reason.LOAD_ABANDONED, "The codec room ended a load before it began; try again."
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
            # Until the engine has a place for it no further chunk is taken, which stands the load still.
            await asyncio.wrap_future(taken)
        elif isinstance(event, RecomputeChunk):
            self._prefix.recompute(event.index)


def salt_of(stored: codec_pb2.Context, asked: codec_pb2.LoadSettings) -> bytes:
    """Name the approximation that a load gives: which context, made when, and how good it was asked to be."""
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


def _check_model(stored: codec_pb2.Context, fingerprint: str) -> None:
    if stored.model_fingerprint != fingerprint:
        raise FailedPrecondition(
            Reason.KV_IDENTITY_MISMATCH,
            f"{stored.name} was made with another model ({stored.model}); create it again with this one.",
            metadata={"found": stored.model_fingerprint, "expected": fingerprint},
        )


def _held_chunks(stored: codec_pb2.Context, tokens: int) -> int:
    """Leading chunks that ``tokens`` tokens in memory cover, all but less than a block of the last."""
    held = 0
    for chunk in stored.chunks:
        if tokens < (chunk.start + chunk.tokens) // BLOCK * BLOCK:
            break
        held += 1
    return held
