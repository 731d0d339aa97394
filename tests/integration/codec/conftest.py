"""The registry and codec rooms on a real server, a tiny model, and contexts made by the job's own handler."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from palimpsest import AsyncClient
from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.jobs import JobContext, WorkerResources
from palimpsest.progress import NullProgress
from palimpsest.rpc.server import Server
from palimpsest.settings import Settings
from services.codec import CodecRoom
from services.codec.tasks import calibrate, create_context
from services.registry import RegistryRoom
from tests.rooms import client_of, room_settings, serving, worker_resources


@pytest.fixture(scope="module")
def codec_settings(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return room_settings(valkey, tmp_path_factory.mktemp("codec"))


@pytest.fixture(scope="module")
def resources(codec_settings: Settings, tiny_model: Path) -> WorkerResources:
    """What a worker has; "tiny" is registered."""
    return worker_resources(codec_settings, tiny=tiny_model)


@pytest.fixture(scope="module")
async def server(codec_settings: Settings, resources: WorkerResources) -> AsyncIterator[Server]:
    async with serving(codec_settings, RegistryRoom(), CodecRoom()) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def create(resources: WorkerResources) -> Callable[..., pb.Context]:
    """Run the job of CreateContext here and now."""

    def run(progress: NullProgress | None = None, **fields: object) -> pb.Context:
        request = pb.CreateContextRequest(**{"model": "tiny", **fields})
        return create_context(request, JobContext("job", "local", 1, progress or NullProgress(), resources))

    return run


@pytest.fixture(scope="module")
def profile(resources: WorkerResources) -> pb.Profile:
    """A calibration of the tiny model."""
    request = pb.CalibrateRequest(model="tiny", documents=6, document_tokens=256, group=1)
    return calibrate(request, JobContext("job", "local", 1, NullProgress(), resources))
