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
from tests.rooms import client_of, room_settings, serving, worker_resources


@pytest.fixture(scope="module")
def own_settings(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return room_settings(valkey, tmp_path_factory.mktemp("datastore"))


@pytest.fixture(scope="module")
def resources(own_settings: Settings, tiny_model: Path) -> WorkerResources:
    """What a worker has; "tiny" is registered."""
    return worker_resources(own_settings, tiny=tiny_model)


@pytest.fixture(scope="module")
async def server(own_settings: Settings, resources: WorkerResources) -> AsyncIterator[Server]:
    # Longer than any pause of a busy machine: no test waits until it is over, see `impatient`.
    patience = {"PALIMPSEST_DATASTORE_ACKNOWLEDGE_SECONDS": "60"}
    async with serving(own_settings, RegistryRoom(), DatastoreRoom(), **patience) as server:
        yield server


@pytest.fixture
def impatient(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletions of the test break the streams of those who do not acknowledge them at once."""
    room = next(room for room in server.rooms if isinstance(room, DatastoreRoom))
    settings = room._servicer._settings.model_copy(update={"acknowledge_seconds": 0.1})
    monkeypatch.setattr(room._servicer, "_settings", settings)


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with client_of(server) as client:
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
