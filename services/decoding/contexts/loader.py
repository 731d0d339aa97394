"""Opens stored contexts for requests that continue them."""

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.client import profiles
from palimpsest.client.aio.artifacts import AsyncArtifacts
from palimpsest.client.aio.codec import AsyncCodec
from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.engine import Hosted, Request
from palimpsest.errors import FailedPrecondition, PalimpsestError, Reason
from palimpsest.lm.blocks import BLOCK
from palimpsest.lru import LruCache
from services.decoding.contexts.load import ContextLoad, salt_of

if TYPE_CHECKING:
    from palimpsest.kv import CalibrationProfile

_REMEMBERED = 64
"""Contexts whose token ids and losses are kept; a few hundred kilobytes each at most."""
_LONGEST_SECONDS = 86_400.0
"""Longest time to recompute that the contract lets a receiver name."""


class ContextLoader:
    """Opens contexts, and remembers the token ids by which the next request finds them in the engine's cache.

    Parameters
    ----------
    artifacts
        Calibration profiles are read from here if the codec room shares the store.
    """

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        # Each under the request's salt first: what one caller has loaded must not speed up another's call.
        self._ids: LruCache[tuple[bytes, str], np.ndarray] = LruCache(_REMEMBERED)
        self._losses: LruCache[bytes, dict[int, float]] = LruCache(_REMEMBERED)
        self._running_loads = 0

    async def open(
        self, message: pb.GenerateRequest, request: Request, hosted: Hosted, connection: AsyncConnection
    ) -> "ContextLoad":
        """Start to load a context, and wait until its token ids are known.

        Parameters
        ----------
        message
            Names the context, and how to load it.
        request
            The engine's request for the prompt that follows the context.
        hosted
            The model.
        connection
            To the codec room, with the caller's token.

        Raises
        ------
        NotFound
            No such context.
        FailedPrecondition
            It belongs to another model.
        PalimpsestError
            Any other error of the codec room before the load has begun.
        """
        began = time.monotonic()
        codec = AsyncCodec(connection, AsyncArtifacts(connection))
        stored = await codec.context(message.context)
        _check_model(stored, hosted.record.fingerprint)
        salt = salt_of(stored, message.context_load)
        ids, held = self._ids.get((request.salt, stored.prefix_digest)), 0
        if ids is not None:
            tokens = await asyncio.to_thread(hosted.engine.held, ids.tolist(), salt, request.salt)
            held = _held_chunks(stored, tokens)
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
        load = ContextLoad(receiving, self._losses.setdefault(request.salt + salt, {}), began)
        try:
            if receiving is not None:
                self._running_loads += 1
                opened = await load.begin(self._ended)
                if opened.context.create_time != stored.create_time:
                    # It was created anew in between: its old blocks do not match, so the engine recomputes them.
                    _check_model(opened.context, hosted.record.fingerprint)
                    stored, ids = opened.context, opened.token_ids
                    salt = salt_of(stored, message.context_load)
                    load.losses = self._losses.setdefault(request.salt + salt, {})
                ids = self._ids.setdefault((request.salt, stored.prefix_digest), opened.token_ids)
            assert ids is not None
            load.attach(stored, request, ids, salt, held)
        except BaseException:
            await load.close()
            raise
        return load

    def _ended(self, _task: "asyncio.Task[None]") -> None:
        self._running_loads -= 1

    async def _settings(
        self, asked: codec_pb2.LoadSettings, stored: codec_pb2.Context, request: Request, hosted: Hosted
    ) -> codec_pb2.LoadSettings:
        """The caller's settings, with the engine's own measurements where they are unset."""
        settings, engine = codec_pb2.LoadSettings(), hosted.engine
        settings.CopyFrom(asked)
        if not settings.recompute:
            # Only as far as the context goes: a model without a limit would take days for all it can.
            for tokens, seconds in await asyncio.to_thread(engine.prefill_curve, stored.token_count):
                settings.recompute.add(tokens=tokens, seconds=min(seconds, _LONGEST_SECONDS))
        settings.sharers = settings.sharers or self._running_loads + 1
        if not settings.tail_seconds:
            tokens = stored.token_count
            settings.tail_seconds = engine.costs.prefill(tokens, tokens + len(request.ids))
        return settings

    def _profile(self, digest: str) -> "CalibrationProfile | None":
        """The calibration profile from this server's store; None if the client has to fetch it."""
        if not digest:
            return None
        try:
            return profiles.find(digest) or profiles.keep(digest, self._artifacts.read_bytes(digest))
        except PalimpsestError:
            return None


def _check_model(stored: codec_pb2.Context, fingerprint: str) -> None:
    if stored.model_fingerprint != fingerprint:
        raise FailedPrecondition(
            Reason.KV_IDENTITY_MISMATCH,
            f"{stored.name} was made with another model ({stored.model}); create it again with this one.",
            metadata={"found": stored.model_fingerprint, "expected": fingerprint},
        )


def _held_chunks(stored: codec_pb2.Context, tokens: int) -> int:
    """How many leading chunks ``tokens`` cached tokens cover, up to a partial block at the end."""
    held = 0
    for chunk in stored.chunks:
        if tokens < (chunk.start + chunk.tokens) // BLOCK * BLOCK:
            break
        held += 1
    return held
