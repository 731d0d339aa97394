"""DecodingService: validate, convert, call, convert back."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
from google.longrunning import operations_pb2

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.api.decoding.v1 import decoding_pb2_grpc
from palimpsest.client.peers import PeerClient
from palimpsest.engine import EngineHost, Hosted
from palimpsest.rpc import call
from palimpsest.rpc.admission import Places
from palimpsest.rpc.auth import ADMIN_ENGINES
from palimpsest.rpc.resources import Resources
from services.decoding.constraints import form_of
from services.decoding.rooms import CallerRooms
from services.decoding.sharing import prefix_salt

if TYPE_CHECKING:
    from services.decoding.generation import GenerationPlanner


class DecodingServicer(decoding_pb2_grpc.DecodingServiceServicer):
    """The contract's DecodingService over an :class:`EngineHost`.

    Parameters
    ----------
    resources
        Settings, jobs, artefacts and models.
    host
        Its engines.
    """

    def __init__(self, resources: Resources, host: EngineHost) -> None:
        self._resources, self._host = resources, host
        # Loading a model and tokenizing a book take seconds: they get threads of their own.
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="decoding")
        # One caller's requests never fill the engine's queue.
        settings = resources.settings
        most = settings.engine_max_running + settings.engine_queue_limit
        self._places = Places(most, settings.caller_share)
        self._codec = PeerClient(resources.settings, "codec")
        self._datastore = PeerClient(resources.settings, "datastore")
        self._generations: GenerationPlanner | None = None

    async def close(self) -> None:
        """Close the channels to the codec and datastore rooms."""
        await self._codec.close()
        await self._datastore.close()

    async def Generate(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Stream text."""
        async with (
            self._using(request.model) as hosted,
            self._planner().generate(
                request, hosted, self._rooms(context), self._salt(request.cache_salt)
            ) as plan,
        ):
            async for response in plan.run():
                yield response

    async def Draft(
        self, request: pb.DraftRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.DraftResponse]:
        """Stream several drafts of one continuation."""
        async with (
            self._using(request.model) as hosted,
            self._planner().draft(
                request, hosted, self._rooms(context), self._salt(request.cache_salt)
            ) as plan,
        ):
            async for response in plan.run():
                yield response

    async def Score(self, request: pb.ScoreRequest, context: grpc.aio.ServicerContext) -> pb.ScoreResponse:
        """Score a text."""
        async with self._using(request.model) as hosted:
            from palimpsest.lm import encode_text
            from services.decoding.generation import require_known
            from services.decoding.quoting.quotation import may_quote
            from services.decoding.quoting.scores import mixed_scores
            from services.decoding.scores import check_size, model_scores

            if request.WhichOneof("input") == "tokens":
                ids = list(request.tokens.ids)
            else:
                loop = asyncio.get_running_loop()
                ids = await loop.run_in_executor(
                    self._threads, encode_text, hosted.tokenizer, request.text, "text"
                )
            require_known(hosted, ids)
            check_size(request, len(ids))
            if may_quote(request.nest):
                return await mixed_scores(request, ids, hosted, self._rooms(context).datastore)
            return await model_scores(request, ids, hosted)

    async def GenerateBatch(
        self, request: pb.GenerateBatchRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a batch; the same lines, settings and model are generated once."""
        if request.HasField("structured"):
            await asyncio.to_thread(form_of(request.structured).check)
        record = await asyncio.to_thread(self._resources.models.get, request.model)
        action = {"method": "decoding.generate_batch/1", "model": record.fingerprint}
        return await self._resources.submit(
            "decoding.generate_batch",
            request,
            needs="model",
            inputs=[request.input],
            action=action,
            ignore=("model",),
        )

    async def TuneDrafts(
        self, request: pb.TuneDraftsRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a tuning; the same store, model, texts and settings are tuned once."""
        from palimpsest.client.aio.datastore import AsyncDatastore

        record = await asyncio.to_thread(self._resources.models.get, request.model)
        await asyncio.to_thread(self._resources.callers_artifacts().stat, request.texts)
        connection = self._rooms(context).datastore
        store = await AsyncDatastore(connection).get_ngram_store(
            name=request.ngrams, timeout=connection.deadline
        )
        action = {
            "method": "decoding.tune_drafts/1",
            "model": record.fingerprint,
            "ngrams": store.artifact,
        }
        return await self._resources.submit(
            "decoding.tune_drafts",
            request,
            needs="model",
            inputs=[request.texts, store.artifact],
            action=action,
            ignore=("model", "ngrams"),
        )

    async def GetEngineInfo(
        self, request: pb.GetEngineInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetEngineInfoResponse:
        """Report which models are loaded; to an administrator, also the load of their engines."""
        response = pb.GetEngineInfoResponse(queue_limit=self._resources.settings.engine_queue_limit)
        for hosted in self._host.hosted():
            engine, counters = hosted.engine, hosted.engine.counters
            loaded = response.models.add(
                model=hosted.record.model_id,
                fingerprint=hosted.record.fingerprint,
                device=str(engine.model.device),
                dtype=str(engine.model.dtype).removeprefix("torch."),
                forward=engine.model.forward_kind,
                cache_bytes_limit=engine.model.limits.cache_blocks * engine.model.limits.block_bytes,
            )
            if not call().has(ADMIN_ENGINES):
                continue  # the rest tells what other callers send, to the token
            loaded.running, loaded.waiting = engine.running, engine.waiting
            loaded.cache_bytes_used = engine.cache_bytes_used
            loaded.prefill_tokens = counters.prefill_tokens
            loaded.prefill_tokens_shared = counters.prefill_tokens_shared
            loaded.generated_tokens = counters.generated_tokens
            loaded.decode_steps = counters.decode_steps
        return response

    @asynccontextmanager
    async def _using(self, model: str) -> AsyncIterator[Hosted]:
        """An engine; a caller that leaves while its model loads does not stop the load, but releases the engine."""
        with self._places.place(call().principal):
            work = asyncio.get_running_loop().run_in_executor(self._threads, self._host.acquire, model)
            try:
                hosted = await asyncio.shield(work)
            except asyncio.CancelledError:
                work.add_done_callback(self._release_loaded)
                raise
            try:
                yield hosted
            finally:
                self._host.release(hosted)

    def _release_loaded(self, work: "asyncio.Future[Hosted]") -> None:
        if not work.cancelled() and work.exception() is None:
            self._host.release(work.result())

    def _rooms(self, context: grpc.aio.ServicerContext) -> CallerRooms:
        """The other rooms, with the token of the call that is being served."""
        return CallerRooms(
            lambda: self._codec.connection(context), lambda: self._datastore.connection(context)
        )

    def _salt(self, cache_salt: str) -> bytes:
        across = self._resources.settings.engine_share_prefixes
        return prefix_salt(call().principal, cache_salt, across)

    def _planner(self) -> "GenerationPlanner":
        """The planner; made by the first call, as it imports torch."""
        if self._generations is None:
            from palimpsest.ngrams import StoreCache
            from services.decoding.contexts.loader import ContextLoader
            from services.decoding.drafts.planning import DraftPlanner
            from services.decoding.drafts.tuning import TunedCatalogue
            from services.decoding.generation import GenerationPlanner

            resources = self._resources
            stores = StoreCache(resources.artifacts, resources.settings.state_dir / "ngrams")
            tuned = TunedCatalogue(resources.redis, resources.settings.redis_prefix)
            contexts = ContextLoader(resources.artifacts)
            self._generations = GenerationPlanner(contexts, DraftPlanner(stores, tuned), self._threads)
        return self._generations
