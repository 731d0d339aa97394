"""UnlearningService: validate, convert, call, convert back."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import grpc
from google.longrunning import operations_pb2

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.api.unlearning.v1 import unlearning_pb2_grpc
from palimpsest.client.peers import PeerClient
from palimpsest.errors import FailedPrecondition, NotFound, OutOfRange, Reason
from palimpsest.jobs import JobStore
from palimpsest.jobs.submission import job_spec
from palimpsest.models.tokenizers import TokenizerCache, load_tokenizer
from palimpsest.redaction import redacted
from palimpsest.rpc import call
from palimpsest.rpc.resources import Resources
from services.unlearning.attesting import Attestation
from services.unlearning.convert import listed, preview_message
from services.unlearning.reach import Reach
from services.unlearning.removal.plan import ResolvedPlan, digests_of, resolve
from services.unlearning.removal.requirements import require_free
from services.unlearning.requests.alike import MOST_TOGETHER, waiting
from services.unlearning.requests.budget import require_budget
from services.unlearning.requests.history import Predecessors, past_of
from services.unlearning.requests.line import Line
from services.unlearning.requests.records import (
    PREFIX,
    RemovalCatalogue,
    RemovalRecord,
    content_of,
    new_salt,
    require_same,
)
from services.unlearning.requests.settling import Settler
from services.unlearning.requests.states import HELD_SECONDS, now_stamp
from services.unlearning.requests.sweeping import RequestSweep
from services.unlearning.requests.transitions import Transitions

T = TypeVar("T")

_THREADS = 2
"""Data sets that are read and tokenized at once; further calls wait."""
_CHUNK = 256 << 10


class UnlearningServicer(unlearning_pb2_grpc.UnlearningServiceServicer):
    """The contract's UnlearningService over the catalogue of requests."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        settings = resources.settings
        self._requests = RemovalCatalogue(resources.redis, settings.redis_prefix)
        self._settler = Settler(self._requests, JobStore(resources.redis, settings), settings)
        self.sweep = RequestSweep(self._requests, self._settler, settings)
        self._transitions = Transitions(resources, self._requests, self._settler)
        self._tokenizers = TokenizerCache(load_tokenizer)
        self._peers = {room: PeerClient(settings, room) for room in ("codec", "datastore")}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="unlearning")

    def close(self) -> None:
        """Let running work end, and stop the threads."""
        self._threads.shutdown()

    async def close_peers(self) -> None:
        """Close the channels to other rooms."""
        for peer in self._peers.values():
            await peer.close()

    async def PreviewRemoval(
        self, request: pb.PreviewRemovalRequest, context: grpc.aio.ServicerContext
    ) -> pb.RemovalPreview:
        """Say what a request would do."""
        plan = await self._resolved(request.plan)
        past = await asyncio.to_thread(self._past, plan)
        require_budget(request.plan, past)
        stores = await self._reach(context).stores(request.plan)
        ahead = await asyncio.to_thread(self._settler.ahead, call().principal, _unrecorded(plan))
        alike = await asyncio.to_thread(self._alike, call().principal, plan)
        return preview_message(plan, stores, ahead, alike, past)

    async def CreateRemovalRequest(
        self, request: pb.CreateRemovalRequestRequest, context: grpc.aio.ServicerContext
    ) -> operations_pb2.Operation:
        """Record a request, and queue its job."""
        principal = call().principal
        removal_id, content = _id_of(request, principal), content_of(request.plan)
        there = await asyncio.to_thread(self._requests.find, principal, removal_id)
        if there is not None:
            require_same(there, content)
        if there is None or not there.job:
            plan = await self._resolved(request.plan)
            plan.require_no_overlap()
            require_budget(request.plan, await asyncio.to_thread(self._past, plan))
            await asyncio.to_thread(require_free, self._resources.models, request.plan)
            await self._reach(context).stores(request.plan)
            there = await asyncio.to_thread(self._record, principal, removal_id, request, plan)
        return await self._operation(principal, there, request.hold)

    async def GetRemovalRequest(
        self, request: pb.GetRemovalRequestRequest, context: grpc.aio.ServicerContext
    ) -> pb.RemovalRequest:
        """Look one of the caller's requests up."""
        return (await asyncio.to_thread(self._now, call().principal, request.name)).message

    async def ListRemovalRequests(
        self, request: pb.ListRemovalRequestsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListRemovalRequestsResponse:
        """List the caller's requests."""
        principal = call().principal

        def page() -> tuple[list[pb.RemovalRequest], str]:
            found, token = self._requests.list(principal, request.page_size, request.page_token)
            return [listed(self._settler.now(principal, each).message) for each in found], token

        messages, token = await asyncio.to_thread(page)
        return pb.ListRemovalRequestsResponse(removal_requests=messages, next_page_token=token)

    async def HoldRemovalRequest(
        self, request: pb.HoldRemovalRequestRequest, context: grpc.aio.ServicerContext
    ) -> pb.RemovalRequest:
        """Hold a request that waits."""
        return await self._transitions.hold(call().principal, request.name)

    async def ApproveRemovalRequest(
        self, request: pb.ApproveRemovalRequestRequest, context: grpc.aio.ServicerContext
    ) -> pb.RemovalRequest:
        """Let a held request run."""
        return await self._transitions.approve(call().principal, request.name)

    async def RollBackRemovalRequest(
        self, request: pb.RollBackRemovalRequestRequest, context: grpc.aio.ServicerContext
    ) -> pb.RemovalRequest:
        """Take a finished request back."""
        return await asyncio.to_thread(self._transitions.roll_back, call().principal, request.name)

    async def GetCertificate(
        self, request: pb.GetCertificateRequest, context: grpc.aio.ServicerContext
    ) -> pb.Certificate:
        """Return a request's certificate and what verifies it."""
        principal = call().principal
        record = await asyncio.to_thread(self._now, principal, request.name)
        attestation = Attestation(self._resources.settings, principal)
        found = await asyncio.to_thread(attestation.find, record.id)
        if found is None or not record.message.result.certificate:
            message = f"{request.name} has no certificate: it has not succeeded, or has made no model."
            raise FailedPrecondition(Reason.CERTIFICATE_MISSING, message, metadata={"name": request.name})
        return pb.Certificate(
            certificate=found.certificate, public_key=found.public_key, revocations=found.revocations
        )

    async def ReadAuditLog(
        self, request: pb.ReadAuditLogRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ReadAuditLogResponse]:
        """Stream the caller's log."""
        path = Attestation(self._resources.settings, call().principal).log.path
        size = await asyncio.to_thread(lambda: path.stat().st_size if path.exists() else 0)
        if request.offset > size:
            message = f"Offset {request.offset} is past the end: the log has {size} bytes."
            raise OutOfRange(Reason.OFFSET_PAST_END, message, metadata={"size_bytes": size})
        at = request.offset
        while at < size:
            data = await asyncio.to_thread(_read, path, at, min(_CHUNK, size - at))
            yield pb.ReadAuditLogResponse(data=data)
            at += len(data)

    def _past(self, plan: ResolvedPlan) -> Predecessors:
        return past_of(self._requests, call().principal, self._resources.models, plan.model, plan.start)

    def _alike(self, principal: str, plan: ResolvedPlan) -> int:
        """How many of a caller's requests in the line a plan could be trained with."""
        if not plan.plan.coalesce:
            return 0
        line = Line(self._resources.redis, self._resources.settings.redis_prefix, plan.lineage)
        return min(len(waiting(self._settler, line, principal, "", plan.plan)), MOST_TOGETHER - 1)

    def _now(self, principal: str, name: str) -> RemovalRecord:
        return self._settler.now(principal, self._requests.get(principal, name))

    async def _resolved(self, plan: pb.RemovalPlan) -> ResolvedPlan:
        """Check a plan for the caller, who may name own artefacts only."""
        view, own = self._resources.callers_artifacts(), self._resources
        for digest in digests_of(plan):
            await asyncio.to_thread(view.stat, digest)

        @redacted()
        def resolved() -> ResolvedPlan:
            return resolve(plan, own.models, own.artifacts, self._tokenizers.get, own.settings.threads)

        return await self._in_thread(resolved)

    def _record(
        self, principal: str, removal_id: str, request: pb.CreateRemovalRequestRequest, plan: ResolvedPlan
    ) -> RemovalRecord:
        if request.hold:
            self._transitions.require_room(principal)
        message = pb.RemovalRequest(
            name=f"{PREFIX}{removal_id}",
            state=pb.REMOVAL_STATE_RECEIVED,
            plan=request.plan,
            create_time=now_stamp(),
        )
        record = RemovalRecord(message, content_of(request.plan), new_salt(), plan.lineage)
        there = self._requests.put(principal, record)
        if there is record:
            Attestation(self._resources.settings, principal).note(removal_id, "RECEIVED")
        return there

    async def _operation(self, principal: str, record: RemovalRecord, hold: bool) -> operations_pb2.Operation:
        """Return the operation of a recorded request; it gets its job, unless it has one."""
        if record.job:
            try:
                return (await self._resources.jobs.get(record.job)).operation()
            except NotFound:
                if record.message.state != pb.REMOVAL_STATE_SUCCEEDED:
                    raise
                done = operations_pb2.Operation(name=record.message.operation, done=True)
                done.response.Pack(record.message)
                return done
        request = pb.CreateRemovalRequestRequest(
            plan=record.message.plan, removal_id=record.id, request_id=f"removal-{record.salt}"
        )
        spec = job_spec(
            "unlearning.remove",
            request,
            self._resources.settings,
            principal=principal,
            needs="train",
            inputs=digests_of(record.message.plan),
        )
        job = await self._resources.jobs.submit(replace(spec, delay=HELD_SECONDS if hold else 0.0))
        state = pb.REMOVAL_STATE_HELD if hold else pb.REMOVAL_STATE_QUEUED

        def queued(found: RemovalRecord) -> RemovalRecord:
            return found.with_job(job.name, state)

        await asyncio.to_thread(self._requests.update, principal, record.id, queued)
        if hold:
            attestation = Attestation(self._resources.settings, principal)
            await asyncio.to_thread(attestation.note, record.id, "HELD")
        else:
            line = Line(self._resources.redis, self._resources.settings.redis_prefix, record.lineage)
            await asyncio.to_thread(line.join, principal, record.id)
        return job.operation()

    def _reach(self, context: grpc.aio.ServicerContext) -> Reach:
        return Reach(
            lambda: self._peers["codec"].connection(context),
            lambda: self._peers["datastore"].connection(context),
        )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _id_of(request: pb.CreateRemovalRequestRequest, principal: str) -> str:
    """The request's id: the one given, or one that the same request_id of the same caller leads to again."""
    if request.removal_id:
        return request.removal_id
    if not request.request_id:
        return f"r-{uuid.uuid4().hex[:16]}"
    seen = "\n".join((principal, request.request_id))
    return f"r-{hashlib.sha256(seen.encode()).hexdigest()[:16]}"


def _unrecorded(plan: ResolvedPlan) -> RemovalRecord:
    """A request that is in no line yet, and so behind all that are."""
    return RemovalRecord(pb.RemovalRequest(), "", "", plan.lineage)


def _read(path: Any, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
