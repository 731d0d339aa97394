"""What a call to Generate or Draft runs: planned, run, closed.

::

    async with planner.generate(message, hosted, rooms) as plan:    # plan: open what the call needs of other rooms
        async for response in plan.run():                           # run: one response for each event of the engine
            yield response
                                                                    # close: give back what was opened
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Generic, Self, TypeVar

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.candidates.block import Candidates
from palimpsest.decoding.drafts import Proposal
from palimpsest.decoding.quoting.events import QuotingFinished
from palimpsest.decoding.quoting.proposals import proposals
from palimpsest.engine import Failed, Hosted, PrefixReady, Request
from palimpsest.engine.events import Ended
from palimpsest.engine.limits import check_ids
from services.decoding.constraints import form_of, refuse_constraints
from services.decoding.contexts.loader import ContextLoader
from services.decoding.convert import DRAFT, GENERATE, Call, Converters, prompt_ids, request_of
from services.decoding.drafts.messages import request_of as draft_request_of
from services.decoding.drafts.planning import DraftPlanner, PlannedDrafts
from services.decoding.outbox import Outbox
from services.decoding.quoting.quotation import Quotation, may_quote, query_of
from services.decoding.rooms import CallerRooms

M = TypeVar("M", pb.GenerateResponse, pb.DraftResponse)
T = TypeVar("T")

QUOTED_DRAFTS = 3
"""Maximum number of quotations that compete with the drafts of one request."""


class GenerationPlan(Generic[M]):
    """One call: the engine's request, the converters of its events, and what to close at its end.

    Leaving its ``async with`` block takes the sequences out of the batch before the next step and closes everything
    that was opened for the call, last opened first.

    Parameters
    ----------
    hosted
        The model.
    request
        The engine's request; features replace it with one that has a prefix or a strategy.
    converters
        Those of the RPC.

    Attributes
    ----------
    outbox
        Where the engine delivers the call's events.
    opening
        Responses that come before the engine's events.
    """

    def __init__(self, hosted: Hosted, request: Request, converters: Converters[M]) -> None:
        self.request = request
        self.converters = converters.copy()
        self.outbox = Outbox()
        self.opening: list[M] = []
        self._engine = hosted.engine
        self._call = Call(request.sampling.seed, hosted.record.fingerprint, hosted.token_bytes)
        self._opened = AsyncExitStack()

    def close_with(self, close: Callable[[], Awaitable[None]]) -> None:
        """Call something when the call has ended, however it ended."""
        self._opened.push_async_callback(close)

    async def run(self) -> AsyncIterator[M]:
        """Submit the request; yield one response for each event until every sequence has ended.

        Raises
        ------
        PalimpsestError
            The engine refuses the request, or the request fails.
        """
        for response in self.opening:
            yield response
        submitted = self._engine.submit(self.request, self.outbox.deliver)
        self._opened.callback(submitted.cancel)
        left = self.request.n
        while left:
            for event in await self.outbox.take():
                if isinstance(event, Failed):
                    raise event.error
                left -= isinstance(event, Ended)
                yield self.converters.convert(event, self._call)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()


class GenerationPlanner:
    """Plans calls; one for the whole server.

    Parameters
    ----------
    contexts
        Loads stored contexts.
    drafts
        Fills in what requests for drafts leave open.
    threads
        Where prompts are tokenized.
    """

    def __init__(self, contexts: ContextLoader, drafts: DraftPlanner, threads: Executor) -> None:
        self._contexts, self._drafts, self._threads = contexts, drafts, threads
        # Apart from the others: a grammar may take a second, and no prompt waits for one.
        self._compiling = ThreadPoolExecutor(max_workers=4, thread_name_prefix="grammars")

    @asynccontextmanager
    async def generate(
        self, message: pb.GenerateRequest, hosted: Hosted, rooms: CallerRooms, salt: bytes
    ) -> AsyncIterator[GenerationPlan[pb.GenerateResponse]]:
        """Plan a call to Generate.

        Parameters
        ----------
        message
            Validated.
        hosted
            The model it names.
        rooms
            The rooms that keep contexts and corpora, with the caller's token.
        salt
            Of the requests with which this one shares cached prefixes.

        Raises
        ------
        PalimpsestError
            The input cannot be tokenized, its form cannot be honoured, or another room refuses what the call needs.
        """
        if may_quote(message.nest):
            refuse_constraints(message, "Text that quotes (nest)")
        request = replace(await self._in_thread(request_of, message, hosted.tokenizer), salt=salt)
        require_known(hosted, request.ids)
        if message.HasField("structured"):
            form = form_of(message.structured)
            work = asyncio.get_running_loop().run_in_executor(self._compiling, hosted.grammars.compile, form)
            request = replace(request, grammar=await work)
        async with GenerationPlan(hosted, request, GENERATE) as plan:
            if message.context:
                load = await self._contexts.open(message, plan.request, hosted, rooms.codec)
                plan.close_with(load.close)
                plan.converters.add(PrefixReady, load.response)
                plan.request = load.request
            if may_quote(message.nest):
                quotation = Quotation(message.nest, rooms.datastore, hosted, plan.outbox)
                plan.close_with(quotation.close)
                plan.converters.add(QuotingFinished, quotation.finished_response)
                query = query_of(message, plan.request.ids, hosted.tokenizer)
                block = await quotation.open(query, plan.request.ids)
                plan.request = replace(plan.request, strategy=quotation.strategy(block))
            yield plan

    @asynccontextmanager
    async def draft(
        self, message: pb.DraftRequest, hosted: Hosted, rooms: CallerRooms, salt: bytes
    ) -> AsyncIterator[GenerationPlan[pb.DraftResponse]]:
        """Plan a call to Draft; parameters and errors as for :meth:`generate`."""
        ids = await self._in_thread(prompt_ids, message, hosted.tokenizer)
        require_known(hosted, ids)
        request = replace(draft_request_of(message, ids), salt=salt)
        async with GenerationPlan(hosted, request, DRAFT) as plan:
            planned = await self._drafts.plan(message, request, hosted, rooms)
            plan.opening.append(pb.DraftResponse(planned=planned.message))
            strategy = planned.strategy
            if may_quote(message.nest):
                quotation = Quotation(message.nest, rooms.datastore, hosted, plan.outbox)
                plan.close_with(quotation.close)
                query = query_of(message, planned.request.ids, hosted.tokenizer)
                # Tokens alone are compared: nothing is searched by keys, so none are computed.
                block = await quotation.open(query, planned.request.ids, keys=False)
                strategy = replace(strategy, extra=quoted_drafts(planned, block, quotation.is_alive))
            plan.request = replace(planned.request, strategy=strategy)
            yield plan

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def require_known(hosted: Hosted, ids: Sequence[int]) -> None:
    """Check a caller's token ids before stores and vocabularies are asked about them; the engine checks them later.

    Raises
    ------
    InvalidArgument
        TOKEN_ID_OUT_OF_RANGE.
    """
    if ids:
        check_ids(hosted.engine.model, ids)


def quoted_drafts(
    planned: PlannedDrafts, block: Candidates, is_alive: Callable[[str, str, int], bool]
) -> tuple[Proposal, ...]:
    """Continuations of the prompt that passages of a block contain, to compete with the drafts.

    Parameters
    ----------
    planned
        The request for drafts.
    block
        The passages.
    is_alive
        Whether a version of a document of a corpus has not been deleted.
    """
    return tuple(
        proposals(
            block,
            planned.request.ids,
            min(QUOTED_DRAFTS, planned.strategy.settings.k),
            planned.request.max_tokens,
            is_alive,
            planned.strategy.healed,
        )
    )
