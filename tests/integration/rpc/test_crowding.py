"""One caller, whatever it opens and leaves open, against the others: a real server of the registry, real tokens."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from palimpsest import errors
from palimpsest.api.artifacts.v1 import artifacts_pb2 as pb
from palimpsest.api.artifacts.v1 import artifacts_pb2_grpc
from palimpsest.api.decoding.v1 import decoding_pb2, decoding_pb2_grpc
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.rpc.channel import open_aio_channel
from palimpsest.rpc.server import Server
from palimpsest.status import from_rpc_error
from services.registry import RegistryRoom
from tests.integration.rpc.test_pipeline import serving as probing
from tests.integration.rpc.test_pipeline import write_tokens
from tests.rooms import room_settings
from tests.rooms import serving as serving_rooms
from tests.waiting import until_async

UPLOAD = "/palimpsest.api.artifacts.v1.ArtifactService/WriteArtifact"
GET = "/palimpsest.api.artifacts.v1.ArtifactService/GetArtifact"
PLACES = 8


class Caller:
    """One token's connection, and the calls it leaves open."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.open: list[grpc.aio.StreamUnaryCall] = []

    def idle(self, method: str = UPLOAD, first: bytes = b"") -> grpc.aio.StreamUnaryCall:
        """Begin a call of any method, send one message or none, and say nothing more."""

        async def messages() -> AsyncIterator[bytes]:
            if first:
                yield first
            await asyncio.Event().wait()

        call = self.channel.stream_unary(method)(messages())
        self.open.append(call)
        return call

    async def upload(self, data: bytes) -> pb.Artifact:
        """Upload as a program does."""
        opening = pb.WriteArtifactRequest(
            open=pb.WriteArtifactRequest.Open(upload_id=hashlib.sha256(data).hexdigest())
        )
        chunk = pb.WriteArtifactRequest(chunk=pb.WriteArtifactRequest.Chunk(offset=0, data=data))
        stub = artifacts_pb2_grpc.ArtifactServiceStub(self.channel)
        return await stub.WriteArtifact(
            iter([opening, chunk, pb.WriteArtifactRequest(finish=True)]), timeout=30
        )

    async def ask_job(self) -> grpc.StatusCode:
        """Ask for a job that is not there; return the answer's code."""
        request = operations_pb2.GetOperationRequest(name="operations/none")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await operations_pb2_grpc.OperationsStub(self.channel).GetOperation(request, timeout=30)
        return caught.value.code()


@asynccontextmanager
async def callers(server: Server, *names: str) -> AsyncIterator[list[Caller]]:
    async with AsyncExitStack() as stack:
        found = []
        for name in names:
            channel = open_aio_channel(f"127.0.0.1:{server.port}", token=f"{name}-token")
            found.append(Caller(await stack.enter_async_context(channel)))
        yield found
        for caller in found:
            for call in caller.open:
                call.cancel()


@pytest.fixture
async def crowded(valkey: ValkeyServer, tmp_path: Path) -> AsyncIterator[Server]:
    """A server with places for eight calls, of which one caller may have six."""
    tokens = tmp_path / "tokens.json"
    write_tokens(tokens, alice={"scopes": ["*"]}, bob={"scopes": ["*"]}, carol={"scopes": ["*"]})
    settings = room_settings(
        valkey, tmp_path / "state", tokens_file=tokens, max_concurrent_rpcs=PLACES, reserved_rpcs=2
    )
    async with serving_rooms(settings, RegistryRoom()) as server:
        yield server


async def refused(call: grpc.aio.StreamUnaryCall) -> errors.PalimpsestError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def opening(name: str, size: int = 0) -> bytes:
    part = pb.WriteArtifactRequest.Open(upload_id=name, size_bytes=size)
    return pb.WriteArtifactRequest(open=part).SerializeToString()


@pytest.mark.parametrize(
    ("method", "first"),
    [(UPLOAD, True), (UPLOAD, False), (GET, False)],
    ids=["uploads begun", "streams without a message", "unary calls whose request never comes"],
)
async def test_one_callers_idle_calls_leave_room_for_the_others(crowded, method, first):
    async with callers(crowded, "alice", "bob") as (alice, bob):
        calls = [alice.idle(method, opening(f"u-{n}", 64 << 30) if first else b"") for n in range(300)]
        ended = set()
        async with asyncio.timeout(60):
            while len(ended) < len(calls) - 6:
                ended |= {call for call in calls if call.done()}
                await asyncio.sleep(0.01)
        reasons = {(await refused(call)).reason for call in ended}
        assert reasons == {"QUOTA_EXCEEDED"}
        assert (await bob.upload(b"small")).size_bytes == 5
        assert await bob.ask_job() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await alice.upload(b"more")
        error = from_rpc_error(caught.value)
        assert (error.reason, error.metadata["limit"]) == ("QUOTA_EXCEEDED", "6")


async def test_a_large_upload_that_was_begun_reserves_nothing(crowded):
    uploads = crowded.settings.state_dir / "artifacts"
    async with callers(crowded, "alice", "bob") as (alice, bob):
        alice.idle(first=opening("large", 64 << 30))
        status = pb.QueryWriteStatusRequest(upload_id="large")
        stub = artifacts_pb2_grpc.ArtifactServiceStub(alice.channel)

        async def begun() -> bool:
            try:
                return (await stub.QueryWriteStatus(status)).committed_size == 0
            except grpc.aio.AioRpcError:
                return False

        await until_async(begun)
        assert sum(path.stat().st_size for path in uploads.rglob("*") if path.is_file()) < 4096
        assert (await bob.upload(b"small")).size_bytes == 5


async def test_jobs_health_and_reflection_are_answered_by_a_full_server(crowded):
    async with callers(crowded, "alice", "bob", "carol") as (alice, bob, carol):
        for number in range(6):
            alice.idle(first=opening(f"a-{number}"))
        for number in range(PLACES - 6):
            bob.idle(first=opening(f"b-{number}"))

        await until_async(lambda: asyncio.sleep(0, len(crowded._pipeline._running) == PLACES))
        assert (await refused(carol.idle())).reason == "TOO_MANY_REQUESTS"
        for caller in (alice, bob, carol):
            assert await caller.ask_job() is grpc.StatusCode.NOT_FOUND
        check = health_pb2_grpc.HealthStub(carol.channel).Check(health_pb2.HealthCheckRequest())
        assert (await check).status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        stream = reflection_pb2_grpc.ServerReflectionStub(carol.channel).ServerReflectionInfo(iter([asked]))
        named = [service.name async for answer in stream for service in answer.list_services_response.service]
        assert "palimpsest.api.artifacts.v1.ArtifactService" in named


async def test_watchers_of_health_take_nobodys_place(crowded):
    async with (
        callers(crowded, "alice") as (alice,),
        open_aio_channel(f"127.0.0.1:{crowded.port}") as stranger,
    ):
        stub = health_pb2_grpc.HealthStub(stranger)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(64)]
        answers = Counter()
        for watch in watches:
            try:
                answers[(await watch.read()).status] += 1
            except grpc.aio.AioRpcError as error:
                answers[from_rpc_error(error).reason] += 1
        assert answers == {health_pb2.HealthCheckResponse.SERVING: 2, "TOO_MANY_REQUESTS": 62}
        assert (await alice.upload(b"small")).size_bytes == 5


async def test_an_idle_upload_ends_and_goes_on_where_it_was(valkey, tmp_path):
    settings = room_settings(valkey, tmp_path, stream_idle_seconds=0.5)
    async with serving_rooms(settings, RegistryRoom()) as server, callers(server, "anyone") as (caller,):
        part = pb.WriteArtifactRequest.Chunk(offset=0, data=b"first")

        async def messages() -> AsyncIterator[pb.WriteArtifactRequest]:
            yield pb.WriteArtifactRequest(open=pb.WriteArtifactRequest.Open(upload_id="slow"))
            yield pb.WriteArtifactRequest(chunk=part)
            await asyncio.Event().wait()

        stub = artifacts_pb2_grpc.ArtifactServiceStub(caller.channel)
        error = await refused(stub.WriteArtifact(messages()))
        assert isinstance(error, errors.Aborted)
        assert (error.reason, error.metadata) == ("STREAM_IDLE", {"idle_seconds": "0.5"})
        assert "committed_size" in error.message
        status = await stub.QueryWriteStatus(pb.QueryWriteStatusRequest(upload_id="slow"))
        assert status.committed_size == 5
        rest = pb.WriteArtifactRequest.Chunk(offset=5, data=b" and last")
        again = [
            pb.WriteArtifactRequest(open=pb.WriteArtifactRequest.Open(upload_id="slow")),
            pb.WriteArtifactRequest(chunk=rest),
            pb.WriteArtifactRequest(finish=True),
        ]
        artifact = await stub.WriteArtifact(iter(again), timeout=30)
        assert artifact.digest == f"sha256:{hashlib.sha256(b'first and last').hexdigest()}"


async def test_a_call_whose_request_never_comes_ends_too():
    async with probing(stream_idle_seconds=0.2) as (target, probe, _), open_aio_channel(target) as channel:
        caller = Caller(channel)
        error = await refused(caller.idle("/palimpsest.api.decoding.v1.DecodingService/Score"))
        assert error.reason == "STREAM_IDLE"
        assert probe.attempts == 0


async def test_a_call_that_ends_without_a_request_is_the_callers_fault():
    async with probing() as (target, _, _), open_aio_channel(target) as channel:
        call = channel.stream_unary("/palimpsest.api.decoding.v1.DecodingService/Score")
        error = await refused(call(iter([])))
        assert error.reason == "MALFORMED_MESSAGE"


async def test_a_stream_with_nothing_to_say_is_not_idle():
    async with probing(stream_idle_seconds=0.1) as (target, probe, _), open_aio_channel(target) as channel:
        stub = decoding_pb2_grpc.DecodingServiceStub(channel)
        stream = stub.Generate(decoding_pb2.GenerateRequest(model="m"))
        assert (await stream.read()).started.seed == 1
        for _ in range(3):  # three idle calls have ended meanwhile, one after another
            error = await refused(Caller(channel).idle("/palimpsest.api.decoding.v1.DecodingService/Score"))
            assert error.reason == "STREAM_IDLE"
        probe.release.set()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK
