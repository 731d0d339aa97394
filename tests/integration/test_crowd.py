"""One caller at every limit it has, another who is answered all the same: real rooms, real tokens, a small model."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from palimpsest import AsyncClient, errors
from palimpsest.api.artifacts.v1 import artifacts_pb2 as pb
from palimpsest.client.aio.streams import AsyncStream
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.rpc.channel import open_aio_channel
from palimpsest.rpc.server import Server
from services.datastore import DatastoreRoom
from services.decoding import DecodingRoom
from services.registry import RegistryRoom
from tests.integration.rpc.test_crowding import UPLOAD
from tests.integration.rpc.test_pipeline import write_tokens
from tests.rooms import room_settings, serving, worker_resources
from tests.waiting import until_async

STREAMS, JOBS, CORPORA = 300, 40, 100


@pytest.fixture
async def server(valkey: ValkeyServer, tmp_path: Path, tiny_model: Path) -> AsyncIterator[Server]:
    tokens = tmp_path / "tokens.json"
    scopes = [f"{area}.*" for area in ("artifacts", "datastore", "decoding", "jobs", "models")]
    write_tokens(tokens, alice={"scopes": scopes}, bob={"scopes": scopes})
    settings = room_settings(valkey, tmp_path / "state", tokens_file=tokens, job_queue_limit=JOBS)
    worker_resources(settings, tiny=tiny_model)
    async with serving(settings, RegistryRoom(), DatastoreRoom(), DecodingRoom()) as server:
        yield server


async def fill_queue(alice: AsyncClient) -> int:
    """Queue jobs, each another one's work, until there may be no more; no worker takes any."""
    artifact = await alice.artifacts.upload(b'{"prompt": "x"}\n', media_type="application/jsonl")
    for number in range(JOBS):
        try:
            await alice.decoding.generate_batch(
                model="tiny", input=artifact.digest, sampling={"seed": number + 1}
            )
        except errors.ResourceExhausted as error:
            return number if error.reason == "QUOTA_EXCEEDED" else -1
    return JOBS


def idle_uploads(channel: grpc.aio.Channel, ended: asyncio.Event) -> list[grpc.aio.StreamUnaryCall]:
    async def messages(number: int) -> AsyncIterator[bytes]:
        opening = pb.WriteArtifactRequest.Open(
            upload_id=f"idle-{number}", size_bytes=0 if number else 64 << 30
        )
        yield pb.WriteArtifactRequest(open=opening).SerializeToString()
        await ended.wait()

    method = channel.stream_unary(UPLOAD)
    return [method(messages(number)) for number in range(STREAMS)]


async def test_a_caller_at_every_limit_leaves_the_other_all_it_needs(server: Server):
    target, ended = f"127.0.0.1:{server.port}", asyncio.Event()
    async with (
        AsyncClient(target, token="alice-token") as alice,
        AsyncClient(target, token="bob-token") as bob,
        open_aio_channel(target, token="alice-token") as crowd,
        open_aio_channel(target, token="bob-token") as channel,
    ):
        for number in range(CORPORA):
            await alice.datastore.create_corpus(corpus_id=f"crowd-{number}", model="tiny")
        assert await fill_queue(alice) == JOBS * 3 // 4
        calls = idle_uploads(crowd, ended)
        await until_async(lambda: asyncio.sleep(0, sum(call.done() for call in calls) == STREAMS - 192))
        with pytest.raises(errors.ResourceExhausted, match="as many as one caller may have"):
            await alice.models.get_model(model_id="tiny")

        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert (await check).status == health_pb2.HealthCheckResponse.SERVING
        generated = [
            event async for event in bob.decoding.generate(model="tiny", prompt="the quick", max_tokens=4)
        ]
        assert generated
        artifact = await bob.artifacts.upload(b'{"prompt": "small"}\n', media_type="application/jsonl")
        job = await bob.decoding.generate_batch(model="tiny", input=artifact.digest)
        assert [operation.name for operation in (await bob.jobs.list()).operations] == [job.name]
        assert (await bob.datastore.list_corpora()).corpora == []
        await bob.jobs.cancel(job.name)
        await alice.jobs.get((await alice.jobs.list(page_size=1)).operations[0].name)
        ended.set()
        for call in calls:
            call.cancel()


async def test_one_callers_generations_do_not_fill_the_engines_queue(valkey, tmp_path, tiny_model):
    tokens = tmp_path / "tokens.json"
    write_tokens(tokens, alice={"scopes": ["decoding.*"]}, bob={"scopes": ["decoding.*"]})
    settings = room_settings(
        valkey, tmp_path / "state", tokens_file=tokens, engine_max_running=1, engine_queue_limit=7
    )
    worker_resources(settings, tiny=tiny_model)

    async with serving(settings, DecodingRoom()) as server:
        target = f"127.0.0.1:{server.port}"
        async with (
            AsyncClient(target, token="alice-token") as alice,
            AsyncClient(target, token="bob-token") as bob,
        ):

            def generate(client: AsyncClient, tokens: int) -> AsyncStream:
                return client.decoding.generate(model="tiny", prompt="x", max_tokens=tokens, ignore_eos=True)

            async def reason(stream: AsyncStream) -> str:
                try:
                    async for _ in stream:
                        pass
                except errors.ResourceExhausted as error:
                    return error.reason
                return ""

            running = [asyncio.ensure_future(reason(generate(alice, 1500))) for _ in range(12)]
            await until_async(lambda: asyncio.sleep(0, sum(task.done() for task in running) >= 6))
            assert {task.result() for task in running if task.done()} == {"QUOTA_EXCEEDED"}
            assert await reason(generate(bob, 2)) == ""
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
