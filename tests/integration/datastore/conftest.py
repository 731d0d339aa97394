"""The registry and datastore rooms on a real server, a tiny model, and jobs run here and now by their handlers."""

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from palimpsest import AsyncClient
from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.jobs import JobContext, WorkerResources
from palimpsest.progress import NullProgress
from palimpsest.rpc.server import Server
from palimpsest.settings import Settings
from services.datastore import DatastoreRoom, tasks
from services.registry import RegistryRoom
from tests.rooms import room_settings, worker_resources


@pytest.fixture(scope="module")
def own_settings(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return room_settings(valkey, tmp_path_factory.mktemp("datastore"))


@pytest.fixture(scope="module")
def resources(own_settings: Settings, tiny_model: Path) -> WorkerResources:
    """What a worker has; "tiny" is registered."""
    return worker_resources(own_settings, tiny=tiny_model)


@pytest.fixture(scope="module")
async def server(own_settings: Settings, resources: WorkerResources) -> AsyncIterator[Server]:
    server = Server(own_settings, [RegistryRoom(), DatastoreRoom()])
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture
async def corpus(client: AsyncClient) -> pb.Corpus:
    """An empty corpus of the test's own."""
    return await client.datastore.create_corpus(
        corpus_id=f"c-{uuid.uuid4().hex[:8]}",
        model="tiny",
        encoder="hashed-words",
        passage_tokens=16,
        left_context=8,
    )


@pytest.fixture(scope="module")
def run(resources: WorkerResources) -> Callable[..., Any]:
    """``run("build_index", corpus)``: the job of an RPC, as a worker runs it."""
    kinds = {
        "build_index": (tasks.build_index, pb.BuildIndexRequest),
        "calibrate": (tasks.calibrate, pb.CalibrateRequest),
        "compact": (tasks.compact_corpus, pb.CompactRequest),
        "purge": (tasks.purge_corpus, pb.PurgeRequest),
        "warm_keys": (tasks.warm_keys, pb.WarmKeysRequest),
    }

    def work(kind: str, corpus: pb.Corpus, progress: NullProgress | None = None) -> Any:
        function, request = kinds[kind]
        context = JobContext("job", "local", 1, progress or NullProgress(), resources)
        return function(request(corpus=corpus.name), context)

    return work
