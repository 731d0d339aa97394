"""GraftingService: validate, convert, call, convert back."""

import asyncio
import threading
from collections.abc import Callable
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
from services.grafting.answers import check_pair, graft
from services.grafting.attribution.options import options_of
from services.grafting.convert import case_of, grid_of, patch_of
from services.grafting.pairs import PairHost, facts_of, refusal, require_pair, require_two

T = TypeVar("T")

_WAITING = 16
"""Calls that may wait for the one that runs; each holds a request, and passes of one pair run one after another."""
_NO_PAIR = (
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

    def close(self) -> None:
        """Let the running call end, and give the models up."""
        self._thread.shutdown()
        self._host.close()

    async def CheckPair(
        self, request: pb.CheckPairRequest, context: grpc.aio.ServicerContext
    ) -> pb.PairCheck:
        """Compare two models."""
        base, donor = await self._records(request.pair)

        def work(check: Callable[[], None]) -> pb.PairCheck:
            try:
                pair = self._host.load(base, donor)
            except FailedPrecondition as error:
                if error.reason not in _NO_PAIR:
                    raise
                return pb.PairCheck(reason=error.reason, differences=refusal(error))
            check()
            return check_pair(pair, request.prompt)

        return await self._run(work)

    async def Graft(self, request: pb.GraftRequest, context: grpc.aio.ServicerContext) -> pb.GraftResponse:
        """Run one configuration."""
        base, donor = await self._records(request.pair)
        case, patches = case_of(request.case), [patch_of(each) for each in request.patches]
        return await self._run(
            lambda check: graft(self._host.load(base, donor), case, patches, request.untie, check)
        )

    async def SweepGrafts(
        self, request: pb.SweepGraftsRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Check a sweep against the models' configs and tokenizer, and queue it."""
        base, donor = await self._records(request.pair)

        def check() -> None:
            require_pair(base, donor)
            options_of(request)
            grid_of(request, self._tokenizers.get(base), facts_of(base))

        await asyncio.to_thread(check)
        action = {"method": "grafting.sweep/1", "base": base.fingerprint, "donor": donor.fingerprint}
        return await self._resources.submit("grafting.sweep", request, needs="model", action=action)

    async def _records(self, pair: pb.ModelPair) -> tuple[ModelRecord, ModelRecord]:
        require_two(pair.base, pair.donor)
        models = self._resources.models
        return (
            await asyncio.to_thread(models.get, pair.base),
            await asyncio.to_thread(models.get, pair.donor),
        )

    async def _run(self, work: Callable[[Callable[[], None]], T]) -> T:
        """Run work on the thread of passes; a caller that goes away ends it at its next check."""
        if self._waiting > _WAITING:
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
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, checked)
        except asyncio.CancelledError:
            gone.set()
            raise
        finally:
            self._waiting -= 1
