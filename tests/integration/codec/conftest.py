"""The registry and codec rooms on a real server, a tiny model, and contexts made by the job's own handler."""

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis

from palimpsest import AsyncClient
from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.jobs import JobContext, WorkerResources
from palimpsest.jobs.progress import NullProgress
from palimpsest.models import register
from palimpsest.rpc.server import Server
from palimpsest.settings import Settings
from services.codec import CodecRoom
from services.codec.tasks import calibrate, create_context
from services.registry import RegistryRoom


@pytest.fixture(scope="module")
def codec_settings(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        state_dir=tmp_path_factory.mktemp("codec"),
        redis_url=valkey.url,
        redis_prefix=f"test-{uuid.uuid4().hex[:12]}:",
        listen="127.0.0.1:0",
        threads=1,
        drain_seconds=1.0,
        device="cpu",
        dtype="float32",
        engine_cache_bytes=64 << 20,
    )


@pytest.fixture(scope="module")
def resources(codec_settings: Settings, tiny_model: Path) -> WorkerResources:
    """What a worker has; "tiny" is registered."""
    resources = WorkerResources(codec_settings, redis.Redis.from_url(codec_settings.redis_url))
    register("tiny", str(tiny_model), resources.models, codec_settings, NullProgress())
    return resources


@pytest.fixture(scope="module")
async def server(codec_settings: Settings, resources: WorkerResources) -> AsyncIterator[Server]:
    server = Server(codec_settings, [RegistryRoom(), CodecRoom()])
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture(scope="module")
def create(resources: WorkerResources) -> Callable[..., pb.Context]:
    """Run the job of CreateContext here and now."""

    def run(progress: NullProgress | None = None, **fields: object) -> pb.Context:
        request = pb.CreateContextRequest(**{"model": "tiny", **fields})
        return create_context(request, JobContext("job", "me", 1, progress or NullProgress(), resources))

    return run


@pytest.fixture(scope="module")
def profile(resources: WorkerResources) -> pb.Profile:
    """A calibration of the tiny model."""
    request = pb.CalibrateRequest(model="tiny", documents=6, document_tokens=256, group=1)
    return calibrate(request, JobContext("job", "me", 1, NullProgress(), resources))
