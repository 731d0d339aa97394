"""CodecService: validate, convert, call, convert back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.longrunning import operations_pb2

from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.api.codec.v1 import codec_pb2_grpc
from palimpsest.errors import FailedPrecondition, InvalidArgument, PalimpsestError, Reason
from palimpsest.lm import encode_text
from palimpsest.models.tokenizers import TokenizerCache, load_tokenizer
from palimpsest.rpc import call
from palimpsest.rpc.resources import Resources
from palimpsest.settings import CodecSettings
from services.codec.coding import checked_ids, choose_coding
from services.codec.contexts import ContextCatalogue
from services.codec.convert import data_of, first_part, report
from services.codec.pages import part_of
from services.codec.profiles import ProfileCatalogue

if TYPE_CHECKING:
    from services.codec.loads import LoadSession

T = TypeVar("T")


class CodecServicer(codec_pb2_grpc.CodecServiceServicer):
    """The contract's CodecService over the catalogues of contexts and profiles."""

    def __init__(self, resources: Resources) -> None:
        self._resources, self._settings = resources, CodecSettings()
        prefix, store, client = resources.settings.redis_prefix, resources.artifacts, resources.redis
        self._contexts = ContextCatalogue(client, prefix, store)
        self._profiles = ProfileCatalogue(client, prefix, store)
        self._tokenizers = TokenizerCache(load_tokenizer)
        # Coding a chunk is CPU-heavy (tenths of a second), so it gets its own threads.
        self._threads = ThreadPoolExecutor(self._settings.max_concurrent_calls, thread_name_prefix="codec")

    def share_profiles(self) -> None:
        """Let every caller read the profiles of models; see ``ProfileCatalogue.share``."""
        self._profiles.share()

    def close(self) -> None:
        """Let running work end, and stop the threads."""
        self._threads.shutdown()

    async def CreateContext(
        self, request: pb.CreateContextRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue the prefill and encoding of a text."""
        record = await asyncio.to_thread(self._resources.models.get, request.model)
        await asyncio.to_thread(choose_coding, request.coding, record, self._profiles)
        inputs = []
        match request.WhichOneof("input"):
            case "tokens":
                checked_ids(request.tokens.ids, record)
            case "text_artifact":
                inputs.append(request.text_artifact)
            case "text" if request.text:
                pass
            case _:
                raise InvalidArgument.field(
                    Reason.PROMPT_EMPTY, "text", "Send the context as text, tokens or the digest of a text."
                )
        return await self._submit("codec.create_context", request, inputs)

    async def PutContext(
        self, request_iterator: AsyncIterator[pb.PutContextRequest], context: grpc.aio.ServicerContext
    ) -> pb.Context:
        """Encode and store a caller's cache, a chunk at a time."""
        first = await first_part(request_iterator, "spec")
        spec = first.spec
        record = await asyncio.to_thread(self._resources.models.get, spec.model)
        ids = checked_ids(spec.tokens.ids, record)
        from services.codec.puts import open_put
        from services.codec.streams import chunks_of

        principal = call().principal
        put = await self._in_thread(
            lambda: open_put(
                principal,
                spec.shape,
                spec.coding,
                spec.context_id,
                ids,
                record,
                self._resources.artifacts,
                self._contexts,
                self._profiles,
            )
        )
        if put.existing is not None:
            return part_of(put.existing)
        parts = data_of(request_iterator)
        size, limit = put.writer.coding.chunk_tokens, self._settings.chunk_bytes
        async for kv in chunks_of(parts, spec.shape, size, limit):
            await self._in_thread(put.writer.add, kv)
        return await self._in_thread(
            lambda: part_of(
                put.writer.commit(
                    self._contexts, principal, spec.shape, put.context_id, put.content, spec.labels
                )
            )
        )

    async def GetContext(
        self, request: pb.GetContextRequest, context: grpc.aio.ServicerContext
    ) -> pb.Context:
        """Look one of the caller's contexts up."""
        found = await asyncio.to_thread(self._contexts.get, call().principal, request.name)
        return await asyncio.to_thread(part_of, found, request.first_chunk)

    async def ListContexts(
        self, request: pb.ListContextsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListContextsResponse:
        """List the caller's contexts, oldest first."""
        found, token = await asyncio.to_thread(
            self._contexts.list, call().principal, request.page_size, request.page_token, request.model
        )
        return pb.ListContextsResponse(contexts=found, next_page_token=token)

    async def DeleteContext(
        self, request: pb.DeleteContextRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteContextResponse:
        """Forget a context."""
        await asyncio.to_thread(self._contexts.delete, call().principal, request.name)
        return pb.DeleteContextResponse()

    async def LookUpContext(
        self, request: pb.LookUpContextRequest, context: grpc.aio.ServicerContext
    ) -> pb.LookUpContextResponse:
        """Find what is stored of a text."""
        record = await asyncio.to_thread(self._resources.models.get, request.model)
        if request.WhichOneof("input") == "tokens":
            ids = list(request.tokens.ids)
        elif request.text:
            ids = await self._in_thread(
                lambda: encode_text(self._tokenizers.get(record), request.text, "text")
            )
        else:
            raise InvalidArgument.field(Reason.PROMPT_EMPTY, "text", "Send a text or token ids to look up.")
        principal = call().principal
        match = await asyncio.to_thread(self._contexts.look_up, principal, record.fingerprint, ids)
        response = pb.LookUpContextResponse(token_count=len(ids))
        if match is not None:
            from services.codec.writing import level_summaries

            found = await asyncio.to_thread(self._contexts.get, principal, f"contexts/{match.context_id}")
            losses = {level.level: level.loss for level in found.levels}
            response.name, response.chunks, response.matched_tokens = found.name, match.chunks, match.tokens
            response.levels.extend(level_summaries(found.chunks[: match.chunks], losses))
        return response

    async def LoadContext(
        self, request_iterator: AsyncIterator[pb.LoadContextRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.LoadContextResponse]:
        """Stream a context while its receiver reports."""
        first = await first_part(request_iterator, "begin")
        from services.codec.loads import LoadSession
        from services.codec.plans import plan

        begin = first.begin
        stored = await asyncio.to_thread(self._contexts.get, call().principal, begin.name)
        if begin.model_fingerprint not in ("", stored.model_fingerprint):
            raise FailedPrecondition(
                Reason.KV_IDENTITY_MISMATCH,
                f"{stored.name} was made with another model ({stored.model}); create it again with this one.",
                metadata={"found": stored.model_fingerprint, "expected": begin.model_fingerprint},
            )
        ids = await asyncio.to_thread(self._contexts.token_bytes, stored)
        speeds = await asyncio.to_thread(self._speeds, stored)

        load = plan(stored, begin.settings, speeds, begin.held_chunks, begin.chunks)
        session = LoadSession(
            stored,
            ids,
            load,
            self._resources.artifacts.chunks,
            first=begin.held_chunks,
            window=begin.window_bytes,
            idle_seconds=self._settings.idle_seconds,
        )
        task = asyncio.current_task()
        assert task is not None
        helpers = [
            asyncio.ensure_future(_report(request_iterator, session)),
            asyncio.ensure_future(session.watch(task.cancel)),
        ]
        try:
            async with contextlib.aclosing(session.events()) as events:
                async for event in events:
                    yield event
                    session.taken()
        finally:
            for helper in helpers:
                helper.cancel()

    async def Estimate(
        self, request: pb.EstimateRequest, context: grpc.aio.ServicerContext
    ) -> pb.EstimateResponse:
        """Simulate a load."""
        stored = await asyncio.to_thread(self._contexts.get, call().principal, request.name)
        speeds = await asyncio.to_thread(self._speeds, stored)
        from services.codec.plans import estimate

        return await self._in_thread(estimate, stored, request.settings, speeds)

    async def EncodeCache(
        self, request_iterator: AsyncIterator[pb.EncodeCacheRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.EncodeCacheResponse]:
        """Encode a caller's cache."""
        first = await first_part(request_iterator, "spec")
        spec = first.spec
        record = await asyncio.to_thread(self._resources.models.get, spec.model) if spec.model else None
        from services.codec.puts import encode_once
        from services.codec.streams import FRAME, chunks_of

        parts, shape = data_of(request_iterator), spec.shape
        async for kv in chunks_of(parts, shape, shape.tokens, self._settings.chunk_bytes):
            coded = await self._in_thread(encode_once, kv, spec.coding, record, self._profiles)
            for level, kept in coded.items():
                for at in range(0, len(kept.data), FRAME):
                    yield pb.EncodeCacheResponse(
                        level=level,
                        offset=at,
                        data=kept.data[at : at + FRAME],
                        size_bytes=len(kept.data),
                        loss=kept.loss,
                        stored_level=kept.stored_level,
                    )

    async def DecodeCache(
        self, request_iterator: AsyncIterator[pb.DecodeCacheRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.DecodeCacheResponse]:
        """Decode a caller's chunk."""
        from palimpsest.kv.raw import raw_frames
        from services.codec.puts import StreamDecoder
        from services.codec.streams import FRAME
        from services.codec.writing import shape_of

        sees = self._resources.callers_artifacts().sees
        decoder = StreamDecoder(self._profiles, sees, self._settings.chunk_bytes)
        async for request in request_iterator:
            await self._in_thread(decoder.feed, request.data)
        kv = await self._in_thread(decoder.finish)
        shape = shape_of(kv, kv.tokens)
        shape.start = kv.start
        yield pb.DecodeCacheResponse(shape=shape)
        for data in raw_frames(kv, FRAME):
            yield pb.DecodeCacheResponse(data=data)

    async def Calibrate(
        self, request: pb.CalibrateRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a calibration; the same texts and settings are used once."""
        await asyncio.to_thread(self._resources.models.get, request.model)
        inputs = [request.texts] if request.texts else []
        return await self._submit("codec.calibrate", request, inputs)

    async def GetProfile(
        self, request: pb.GetProfileRequest, context: grpc.aio.ServicerContext
    ) -> pb.Profile:
        """Look a model's profile up."""
        record = await asyncio.to_thread(self._resources.models.get, request.model)
        return await asyncio.to_thread(self._profiles.get, request.model, record.fingerprint)

    async def _submit(
        self, kind: str, request: pb.CreateContextRequest | pb.CalibrateRequest, inputs: list[str]
    ) -> operations_pb2.Operation:
        # Without an action: what a job made may have been deleted or replaced since, so the handler checks itself.
        return await self._resources.submit(kind, request, needs="model", inputs=inputs)

    def _speeds(self, context: pb.Context) -> dict[str, float]:
        """Decoding speeds measured when the context's profile was made, if it is still the model's."""
        profile = self._profiles.find(context.model_fingerprint) if context.profile else None
        if profile is None or profile.artifact != context.profile:
            return {}
        return {level.level: level.decode_tokens_per_second for level in profile.levels}

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


async def _report(messages: AsyncIterator[pb.LoadContextRequest], session: "LoadSession") -> None:
    try:
        async for message in messages:
            report(message, session)
    except PalimpsestError as error:
        session.fail(error)
    finally:
        session.close()
