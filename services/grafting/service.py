"""GraftingService: validate, convert, call, convert back."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc
from google.longrunning import operations_pb2

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.api.grafting.v1 import grafting_pb2_grpc
from palimpsest.errors import Cancelled, FailedPrecondition, Reason, ResourceExhausted
from palimpsest.models.record import ModelRecord
from palimpsest.models.tokenizers import TokenizerCache, load_tokenizer
from palimpsest.rpc.resources import Resources
from services.grafting.answers import AskedGraft, AskedText, check_pair, generated, graft
from services.grafting.asking import require_distinct
from services.grafting.attribution.options import options_of
from services.grafting.convert import case_of, chat_of, decoding_of, grid_of, patch_of
from services.grafting.pairs import (
    AdapterRecord,
    Donor,
    PairHost,
    facts_of,
    records_of,
    refusal,
    require_pair,
)
from services.grafting.planning import plan_of
from services.grafting.sources import require_own_weights
from services.grafting.sweeps import Grid

T = TypeVar("T")

_WAITING = 16
"""Calls that may wait for the one that runs; each holds a request, and passes of one pair run one after another."""
_NEW_TOKENS = 32
_NO_PAIR = (
    Reason.ADAPTER_MISMATCH,
    Reason.UNSUPPORTED_ARCH,
    Reason.ARCH_MISMATCH,
    Reason.TOKENIZER_MISMATCH,
    Reason.NON_FINITE_WEIGHTS,
)
"""Reasons that CheckPair tells as its answer."""


class GraftingServicer(grafting_pb2_grpc.GraftingServiceServicer):
    """The contract's GraftingService over the registered models."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._host = PairHost(resources.settings, resources.settings.engine_max_models)
        self._tokenizers = TokenizerCache(load_tokenizer)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grafting")
        self._waiting = 0
        self._release: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Let the running call end, and give the models up."""
        if self._release is not None:
            self._release.cancel()
        self._thread.shutdown()
        self._host.close()

    async def CheckPair(
        self, request: pb.CheckPairRequest, context: grpc.aio.ServicerContext
    ) -> pb.PairCheck:
        """Compare two models."""
        base, (donor, *others) = await self._records(request.pair)

        def work(check: Callable[[], None]) -> pb.PairCheck:
            try:
                pair = self._host.load(base, donor, others=others)
            except FailedPrecondition as error:
                if error.reason not in _NO_PAIR:
                    raise
                return pb.PairCheck(reason=error.reason, differences=refusal(error))
            check()
            return check_pair(pair, request.prompt)

        return await self._run(work)

    async def Graft(self, request: pb.GraftRequest, context: grpc.aio.ServicerContext) -> pb.GraftResponse:
        """Run one configuration."""
        base, (donor, *others) = await self._records(request.pair)
        patches = [patch_of(each) for each in request.patches]
        case = case_of(request.case)
        asked = AskedGraft(case._replace(contrast=request.contrast or case.contrast), patches, request.untie)
        return await self._run(lambda check: graft(self._host.load(base, donor, others=others), asked, check))

    async def GenerateGrafted(
        self, request: pb.GenerateGraftedRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.GeneratedToken]:
        """Run a configuration and go on from it, a token at a time, so that other calls run in between."""
        base, (donor, *others) = await self._records(request.pair)
        patches = [patch_of(each) for each in request.patches]
        most = request.max_new_tokens or _NEW_TOKENS
        chat = chat_of(request.chat)
        asked = AskedText(request.prompt, patches, request.untie, decoding_of(request), most, chat)
        tokens = await self._run(lambda check: generated(self._host.load(base, donor, others=others), asked))
        while (token := await self._run(lambda check: next(tokens, None), admitted=True)) is not None:
            yield token

    async def PlanGrafts(
        self, request: pb.SweepGraftsRequest, context: grpc.aio.ServicerContext
    ) -> pb.GraftPlan:
        """Count what a sweep would run."""
        base, donors = await self._records(request.pair)

        def work() -> pb.GraftPlan:
            return plan_of(self._grid(request, base, donors), base, donors, self._resources.settings)

        return await asyncio.to_thread(work)

    async def SweepGrafts(
        self, request: pb.SweepGraftsRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Check a sweep against the models' configs and tokenizer, and queue it."""
        base, donors = await self._records(request.pair)
        await asyncio.to_thread(self._grid, request, base, donors)
        action = {
            "method": "grafting.sweep/2",
            "base": base.fingerprint,
            "donors": [donor.fingerprint for donor in donors],
        }
        adapters = [donor.digest for donor in donors if isinstance(donor, AdapterRecord)]
        return await self._resources.submit(
            "grafting.sweep", request, needs="model", inputs=adapters, action=action
        )

    def _grid(self, request: pb.SweepGraftsRequest, base: ModelRecord, donors: Sequence[Donor]) -> Grid:
        """Check a sweep without any weights."""
        for donor in donors:
            require_pair(base, donor)
        options = options_of(request)
        grid = grid_of(request, self._tokenizers.get(base), facts_of(base))
        own = {
            "axes.subsets": grid.axes.subsets,
            "mode": options.preview is not None,
            "sufficient": options.threshold is not None,
        }
        require_own_weights(grid.axes.sources, own)
        return grid

    async def _records(self, pair: pb.ModelPair) -> tuple[ModelRecord, list[Donor]]:
        """Look up the base, and the donor with the others."""
        require_distinct(pair.base, pair.donor, pair.others)
        artifacts = self._resources.callers_artifacts()
        donors = (pair.donor, *pair.others)
        return await asyncio.to_thread(records_of, pair.base, donors, self._resources.models, artifacts)

    async def _run(self, work: Callable[[Callable[[], None]], T], admitted: bool = False) -> T:
        """Run work on the thread of passes; a caller that goes away ends it at its next check.

        Further work of a call that has been ``admitted`` is never refused.
        """
        if self._waiting > _WAITING and not admitted:
            raise ResourceExhausted(
                Reason.TOO_MANY_REQUESTS,
                f"{self._waiting} grafts are waiting. Send it again in a moment, or use SweepGrafts for many.",
                retry_after=2.0,
            )
        gone = threading.Event()

        def check() -> None:
            if gone.is_set():
                raise Cancelled(Reason.CANCELLED, "The caller has gone away.")

        def checked() -> T:
            check()
            return work(check)

        self._waiting += 1
        if self._release is not None:
            self._release.cancel()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, checked)
        except asyncio.CancelledError:
            gone.set()
            raise
        finally:
            self._waiting -= 1
            self._release_later()

    def _release_later(self) -> None:
        """Give the models up once nobody has called for a while: two of them in float32 are much memory to hold."""
        seconds = self._resources.settings.grafting_idle_seconds
        if seconds and self._host.held and not self._waiting:
            self._release = asyncio.get_running_loop().call_later(
                seconds, self._thread.submit, self._host.close
            )
