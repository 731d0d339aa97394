"""DecodingService: validate, convert, hand to the engine, convert back."""

import asyncio
import math
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
from google.longrunning import operations_pb2

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.api.decoding.v1 import decoding_pb2_grpc
from palimpsest.client.peers import PeerClient
from palimpsest.engine import EngineHost, Hosted
from palimpsest.errors import InvalidArgument, Reason, Violation
from palimpsest.rpc.resources import Resources

if TYPE_CHECKING:
    from services.decoding.contexts.loading import ContextLoader
    from services.decoding.convert import TokenBytes
    from services.decoding.drafts.planning import DraftPlanner

_BYTES_PER_LOGPROB = 32
_LARGEST_RESPONSE = 4 << 20


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
        # Loading takes seconds and tokenizing a book takes some: not in the threads that others wait for.
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="decoding")
        self._writers: dict[Hosted, TokenBytes] = {}
        self._codec = PeerClient(resources.settings, "codec")
        self._datastore = PeerClient(resources.settings, "datastore")
        self._contexts: ContextLoader | None = None
        self._drafts: DraftPlanner | None = None

    async def close(self) -> None:
        """Close the channels to the codec and datastore rooms."""
        await self._codec.close()
        await self._datastore.close()

    async def Generate(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Stream text; leaving the stream takes the sequences out of the batch before the next step."""
        loop = asyncio.get_running_loop()
        hosted = await self._acquire(request.model)
        handle = load = quotation = planned = None
        try:
            from palimpsest.decoding.drafts import DraftsEnd
            from palimpsest.engine import Failed, Finished, PrefixReady
            from services.decoding.convert import request_of, response_of
            from services.decoding.drafts.messages import check_drafts
            from services.decoding.drafts.planning import with_quotations
            from services.decoding.outbox import Outbox
            from services.decoding.quoting.quotation import Quotation, may_quote, query_of

            if request.HasField("drafts"):
                check_drafts(request)
            tokenizer = hosted.engine.model.tokenizer
            wanted = await loop.run_in_executor(self._threads, request_of, request, tokenizer)
            if request.context:
                load = await self._context_loader().open(
                    request, wanted, hosted, self._codec.connection(context)
                )
                wanted = load.request
            if request.HasField("drafts"):
                connection = self._datastore.connection(context)
                planned = await self._draft_planner().plan(request, wanted, hosted, connection)
                wanted = planned.request
                yield pb.GenerateResponse(drafts_planned=planned.told)
            outbox, left, write = Outbox(), wanted.n, self._writer(hosted)
            if may_quote(request.nest):
                quotation = Quotation(request.nest, self._datastore.connection(context), hosted, outbox)
                query = query_of(request, wanted.ids, tokenizer)
                opened = await quotation.open(wanted, query, wanted.ids, keys=planned is None)
                wanted = opened if planned is None else with_quotations(planned, opened)
            handle = hosted.engine.submit(wanted, outbox.deliver)
            while left:
                for event in await outbox.take():
                    if isinstance(event, Failed):
                        raise event.error
                    if isinstance(event, PrefixReady):
                        assert load is not None
                        yield load.response(event)
                        continue
                    left -= isinstance(event, Finished | DraftsEnd)
                    response = response_of(event, wanted, hosted.record.fingerprint, write)
                    if quotation is not None:
                        quotation.complete(response)
                    yield response
        finally:
            if handle is not None:
                handle.cancel()
            if load is not None:
                await load.close()
            if quotation is not None:
                await quotation.close()
            self._host.release(hosted)

    async def Score(self, request: pb.ScoreRequest, context: grpc.aio.ServicerContext) -> pb.ScoreResponse:
        """Score a text."""
        loop = asyncio.get_running_loop()
        hosted = await self._acquire(request.model)
        try:
            from palimpsest.lm import encode_text
            from services.decoding.convert import logprob_messages
            from services.decoding.quoting.quotation import may_quote

            if request.WhichOneof("input") == "tokens":
                ids = list(request.tokens.ids)
            else:
                tokenizer = hosted.engine.model.tokenizer
                ids = await loop.run_in_executor(self._threads, encode_text, tokenizer, request.text, "text")
            _check_score(request, len(ids))
            if may_quote(request.nest):
                from services.decoding.quoting.scores import mixed_scores

                connection = self._datastore.connection(context)
                return await mixed_scores(request, ids, hosted, connection, self._writer(hosted))
            future = hosted.engine.submit_score(ids, request.top, request.skip_tokens)
            scores = await asyncio.wrap_future(future)
            tokens = logprob_messages(scores.tokens, self._writer(hosted))
            return pb.ScoreResponse(
                tokens=tokens,
                total_logprob=scores.total,
                perplexity=math.exp(min(700.0, -scores.total / len(tokens))),
                model_fingerprint=hosted.record.fingerprint,
            )
        finally:
            self._host.release(hosted)

    async def GenerateBatch(
        self, request: pb.GenerateBatchRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Queue a batch; the same lines, settings and model are generated once."""
        record = await asyncio.to_thread(self._resources.models.get, request.model)
        await asyncio.to_thread(self._resources.artifacts.stat, request.input)
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
        await asyncio.to_thread(self._resources.artifacts.stat, request.texts)
        connection = self._datastore.connection(context)
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
        """Say what is loaded and how busy it is."""
        response = pb.GetEngineInfoResponse(queue_limit=self._resources.settings.engine_queue_limit)
        for hosted in self._host.hosted():
            engine, counters = hosted.engine, hosted.engine.counters
            response.models.add(
                model=hosted.record.model_id,
                fingerprint=hosted.record.fingerprint,
                device=str(engine.model.device),
                dtype=str(engine.model.dtype).removeprefix("torch."),
                forward=engine.model.forward_kind,
                running=engine.running,
                waiting=engine.waiting,
                cache_bytes_used=engine.cache_bytes_used,
                cache_bytes_limit=engine.model.limits.cache_blocks * engine.model.limits.block_bytes,
                prefill_tokens=counters.prefill_tokens,
                prefill_tokens_shared=counters.prefill_tokens_shared,
                generated_tokens=counters.generated_tokens,
                decode_steps=counters.decode_steps,
            )
        return response

    async def _acquire(self, model: str) -> Hosted:
        """An engine; a caller that leaves while its model loads does not stop the load, but gives it back."""
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._host.acquire, model)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(self._give_back)
            raise

    def _give_back(self, work: "asyncio.Future[Hosted]") -> None:
        if not work.cancelled() and work.exception() is None:
            self._host.release(work.result())

    def _context_loader(self) -> "ContextLoader":
        from services.decoding.contexts.loading import ContextLoader

        if self._contexts is None:
            self._contexts = ContextLoader(self._resources.artifacts)
        return self._contexts

    def _draft_planner(self) -> "DraftPlanner":
        from palimpsest.ngrams import StoreCache
        from services.decoding.drafts.planning import DraftPlanner
        from services.decoding.drafts.tuning import TunedCatalogue

        if self._drafts is None:
            resources = self._resources
            shelf = StoreCache(resources.artifacts, resources.settings.state_dir / "ngrams")
            tuned = TunedCatalogue(resources.redis, resources.settings.redis_prefix)
            self._drafts = DraftPlanner(shelf, tuned, self._writer)
        return self._drafts

    def _writer(self, hosted: Hosted) -> "TokenBytes":
        from services.decoding.convert import TokenBytes

        if hosted not in self._writers:
            self._writers = {h: w for h, w in self._writers.items() if h in self._host.hosted()}
            self._writers[hosted] = TokenBytes(hosted.engine.model.tokenizer)
        return self._writers[hosted]


def _check_score(request: pb.ScoreRequest, tokens: int) -> None:
    """Refuse a text with nothing to score, and a response that would not fit in a message."""
    scored = tokens - max(1, request.skip_tokens)
    if scored < 1:
        raise InvalidArgument(
            Reason.PROMPT_EMPTY,
            f"There is nothing to score: the text has {tokens} tokens, and the first one and skip_tokens "
            f"({request.skip_tokens}) are not scored.",
            metadata={"tokens": tokens},
        )
    if scored * (1 + request.top) * _BYTES_PER_LOGPROB > _LARGEST_RESPONSE:
        most = _LARGEST_RESPONSE // ((1 + request.top) * _BYTES_PER_LOGPROB)
        message = (
            f"The answer for {scored} tokens with {request.top} alternatives each would not fit in one message. Score "
            f"at most {most} tokens at once (skip_tokens leaves the earlier ones as context), or lower top."
        )
        raise InvalidArgument(Reason.INVALID_REQUEST, message, violations=[Violation("top", message)])
