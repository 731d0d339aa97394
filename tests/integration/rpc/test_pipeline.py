"""The pipeline over a real socket, with a servicer made for the purpose."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2

from palimpsest import errors
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.api.decoding.v1 import decoding_pb2_grpc
from palimpsest.rpc import call
from palimpsest.rpc.audit import AuditLog
from palimpsest.rpc.auth import Authenticator
from palimpsest.rpc.channel import open_aio_channel, open_channel
from palimpsest.rpc.pipeline import Pipeline
from palimpsest.settings import Settings
from palimpsest.status import from_rpc_error


class Probe(decoding_pb2_grpc.DecodingServiceServicer):
    """Does what a test asks of it."""

    def __init__(self) -> None:
        self.attempts = 0
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.seen = None

    async def Score(self, request, context):
        self.attempts += 1
        self.seen = call()
        match request.text:
            case "domain":
                raise errors.NotFound(
                    errors.Reason.MODEL_NOT_FOUND, "No such model.", metadata={"model": "m"}
                )
            case "bug":
                raise RuntimeError("secret internals")
            case "away":
                raise errors.Unavailable(errors.Reason.JOB_STORE_UNAVAILABLE, "away", retry_after=0.1)
            case "hang":
                self.entered.set()
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
        return pb.ScoreResponse(perplexity=1.0)

    async def GenerateBatch(self, request, context):
        if request.model == "none":
            raise errors.NotFound(errors.Reason.MODEL_NOT_FOUND, "No such model.")
        return operations_pb2.Operation(name="operations/1")

    async def Generate(self, request, context):
        try:
            yield pb.GenerateResponse(started=pb.GenerateStarted(seed=1))
            self.entered.set()
            await self.release.wait()
        finally:
            self.cancelled.set()


@asynccontextmanager
async def serving(
    tokens: Path | None = None, audit: Path | None = None, **changes
) -> AsyncIterator[tuple[str, Probe, Pipeline]]:
    settings = Settings(redis_url="unix:///nowhere", **changes)
    pipeline = Pipeline(settings, Authenticator(tokens), AuditLog(audit) if audit else None)
    server = grpc.aio.server(interceptors=[pipeline])
    probe = Probe()
    decoding_pb2_grpc.add_DecodingServiceServicer_to_server(probe, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", probe, pipeline
    finally:
        await server.stop(0)


async def score(target: str, text: str = "", *, token: str | None = None, **kwargs) -> pb.ScoreResponse:
    async with open_aio_channel(target, token=token) as channel:
        try:
            return await decoding_pb2_grpc.DecodingServiceStub(channel).Score(
                pb.ScoreRequest(model="m", text=text), **kwargs
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


async def test_a_domain_error_arrives_whole():
    async with serving() as (target, _, _):
        with pytest.raises(errors.NotFound) as caught:
            await score(target, "domain")
    assert caught.value.reason == "MODEL_NOT_FOUND"
    assert caught.value.metadata == {"model": "m"}


async def test_a_bug_is_internal_and_shows_no_insides():
    async with serving() as (target, _, _):
        with pytest.raises(errors.Internal) as caught:
            await score(target, "bug", metadata=(("x-request-id", "find-me"),))
    assert "secret" not in str(caught.value)
    assert caught.value.metadata["request_id"] == "find-me"


async def test_bytes_that_are_no_message_are_the_callers_fault():
    async with serving() as (target, probe, _), open_aio_channel(target) as channel:
        method = channel.unary_unary("/palimpsest.api.decoding.v1.DecodingService/Score")
        for raw in (b"\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xc3\x28"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(raw)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert from_rpc_error(caught.value).reason == "MALFORMED_MESSAGE"
    assert probe.attempts == 0


async def test_a_request_outside_its_limits_never_reaches_the_handler():
    async with serving() as (target, probe, _), open_aio_channel(target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await decoding_pb2_grpc.DecodingServiceStub(channel).Score(pb.ScoreRequest(model="A B"))
    assert [v.field for v in from_rpc_error(caught.value).violations] == ["model"]
    assert probe.attempts == 0


async def test_unavailable_is_retried_four_times_in_all():
    async with serving() as (target, probe, _):
        with pytest.raises(errors.Unavailable):
            await score(target, "away", timeout=30)
        assert probe.attempts == 4


def test_the_blocking_channel_retries_too(free_server):
    target, probe = free_server
    with open_channel(target) as channel, pytest.raises(grpc.RpcError):
        decoding_pb2_grpc.DecodingServiceStub(channel).Score(
            pb.ScoreRequest(model="m", text="away"), timeout=30
        )
    assert probe.attempts == 4


@pytest.fixture
def free_server():
    """A server on a loop of its own, for blocking clients."""
    import threading

    ready, stop, box = threading.Event(), asyncio.Event(), {}

    async def run() -> None:
        async with serving() as (target, probe, _):
            box.update(target=target, probe=probe, loop=asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(30)
    yield box["target"], box["probe"]
    box["loop"].call_soon_threadsafe(stop.set)
    thread.join(30)


async def test_a_call_without_a_deadline_gets_the_default():
    async with serving(default_deadline=0.2) as (target, probe, _):
        with pytest.raises(errors.DeadlineExceeded):
            await score(target, "hang")
        assert probe.cancelled.is_set()


async def test_a_deadline_beyond_the_methods_limit_is_refused():
    async with serving() as (target, _, _):
        with pytest.raises(errors.InvalidArgument, match="at most 600 s"):
            await score(target, timeout=4000)


async def test_a_caller_that_leaves_stops_the_work():
    async with serving() as (target, probe, _), open_aio_channel(target) as channel:
        stream = decoding_pb2_grpc.DecodingServiceStub(channel).Generate(pb.GenerateRequest(model="m"))
        await stream.read()
        stream.cancel()
        await asyncio.wait_for(probe.cancelled.wait(), 10)


async def test_a_full_server_says_when_to_come_back():
    async with serving(max_concurrent_rpcs=1) as (target, probe, _):
        first = asyncio.create_task(score(target, "hang"))
        await probe.entered.wait()
        with pytest.raises(errors.ResourceExhausted) as caught:
            await score(target)
        assert caught.value.retry_after == 1.0
        probe.release.set()
        await first


async def test_draining_lets_calls_finish_and_refuses_new_ones():
    async with serving() as (target, probe, pipeline):
        first = asyncio.create_task(score(target, "hang"))
        await probe.entered.wait()
        draining = asyncio.create_task(pipeline.drain(30))
        await asyncio.sleep(0)
        with pytest.raises(errors.Unavailable, match="shutting down"):
            await score(target, timeout=5)
        probe.release.set()
        assert (await first).perplexity == 1.0
        await draining


async def test_a_stream_that_outlives_the_grace_ends_unavailable():
    async with serving() as (target, probe, pipeline), open_aio_channel(target) as channel:
        stream = decoding_pb2_grpc.DecodingServiceStub(channel).Generate(pb.GenerateRequest(model="m"))
        await stream.read()
        await probe.entered.wait()
        await pipeline.drain(0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert probe.cancelled.is_set()


def write_tokens(path: Path, **tokens: dict) -> None:
    entries = [
        {"name": name, "sha256": hashlib.sha256(f"{name}-token".encode()).hexdigest(), **rest}
        for name, rest in tokens.items()
    ]
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps({"tokens": entries}))
    os.replace(scratch, path)


async def test_tokens_scopes_expiry_and_revocation(tmp_path):
    file = tmp_path / "tokens.json"
    write_tokens(
        file,
        alice={"scopes": ["decoding.*"]},
        bob={"scopes": ["jobs.read"]},
        old={"scopes": ["*"], "expires": 1},
    )
    async with serving(file) as (target, probe, _):
        await score(target, token="alice-token")
        assert probe.seen.principal == "alice"
        with pytest.raises(errors.Unauthenticated, match="asks for a token"):
            await score(target)
        for wrong in ("nobody-token", "old-token"):
            with pytest.raises(errors.Unauthenticated, match="unknown, revoked or expired"):
                await score(target, token=wrong)
        with pytest.raises(errors.PermissionDenied, match=r"lacks the scope decoding\.generate"):
            await score(target, token="bob-token")
        write_tokens(file, bob={"scopes": ["decoding.generate"]})
        await score(target, token="bob-token")
        with pytest.raises(errors.Unauthenticated):
            await score(target, token="alice-token")


async def test_mutating_calls_are_audited_and_reading_ones_are_not(tmp_path):
    audit = tmp_path / "audit.jsonl"
    tokens = tmp_path / "tokens.json"
    write_tokens(tokens, alice={"scopes": ["*"]})
    digest = "sha256:" + "0" * 64
    requests = [pb.GenerateBatchRequest(model=model, input=digest) for model in ("m", "none")]
    async with (
        serving(tokens, audit) as (target, _, _),
        open_aio_channel(target, token="alice-token") as channel,
    ):
        stub = decoding_pb2_grpc.DecodingServiceStub(channel)
        await stub.Score(pb.ScoreRequest(model="m"))
        await stub.GenerateBatch(requests[0], metadata=(("x-request-id", "r-1"),))
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GenerateBatch(requests[1])
    told = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [line["event"] for line in told] == ["begun", "ended"] * 2
    assert [line["call"] for line in told[::2]] == [line["call"] for line in told[1::2]]
    lines = told[1::2]
    assert [(line["principal"], line["code"]) for line in lines] == [("alice", "OK"), ("alice", "NOT_FOUND")]
    assert lines[0]["request_id"] == "r-1"
    assert lines[0]["digest"] == "sha256:" + hashlib.sha256(requests[0].SerializeToString()).hexdigest()
    assert audit.stat().st_mode & 0o777 == 0o600


async def test_a_caller_over_its_quota_is_told_when_to_come_back():
    async with serving(quota_requests_per_minute=2) as (target, probe, _):
        await score(target)
        await score(target)
        with pytest.raises(errors.ResourceExhausted) as caught:
            await score(target)
    assert caught.value.reason == "QUOTA_EXCEEDED"
    assert 0 < caught.value.retry_after <= 30
    assert probe.attempts == 2
