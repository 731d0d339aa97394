"""The registry alone, with a worker of its own: collecting garbage here must not touch what other tests hold."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from palimpsest.api.artifacts.v1 import artifacts_pb2, artifacts_pb2_grpc
from palimpsest.api.jobs.v1 import jobs_pb2_grpc
from palimpsest.api.models.v1 import models_pb2, models_pb2_grpc
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import PalimpsestError
from palimpsest.rpc.channel import open_aio_channel
from palimpsest.rpc.server import Server
from palimpsest.settings import Settings
from palimpsest.status import from_rpc_error, from_status
from services.registry import RegistryRoom
from tests.integration.registry.attempts import Attempts
from tests.rooms import room_settings, serving, worker_resources

ROOT = Path(__file__).parents[3]
RESULTS: list[type[Message]] = [
    models_pb2.Model,
    models_pb2.PairReport,
    models_pb2.FineTuned,
    artifacts_pb2.CollectGarbageResponse,
]


@pytest.fixture(scope="module")
def registry_settings(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return room_settings(valkey, tmp_path_factory.mktemp("registry"), artifact_max_bytes=64 << 20)


@pytest.fixture(scope="module")
async def server(registry_settings: Settings) -> AsyncIterator[Server]:
    async with serving(registry_settings, RegistryRoom()) as server:
        yield server


@pytest.fixture(scope="module")
def worker(registry_settings: Settings) -> Iterator[None]:
    environment = {
        **os.environ,
        "PALIMPSEST_REDIS_URL": registry_settings.redis_url,
        "PALIMPSEST_REDIS_PREFIX": registry_settings.redis_prefix,
        "PALIMPSEST_STATE_DIR": str(registry_settings.state_dir),
    }
    process = subprocess.Popen([sys.executable, "-m", "services.worker"], cwd=ROOT, env=environment)
    yield
    process.terminate()
    process.wait(30)


@contextmanager
def typed() -> Iterator[None]:
    """Raise what the server answered as the project's own errors."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error


@pytest.fixture(scope="module")
async def registry(server: Server) -> AsyncIterator[SimpleNamespace]:
    async with open_aio_channel(f"127.0.0.1:{server.port}") as channel:
        yield SimpleNamespace(
            artifacts=artifacts_pb2_grpc.ArtifactServiceStub(channel),
            models=models_pb2_grpc.ModelServiceStub(channel),
            jobs=jobs_pb2_grpc.JobsServiceStub(channel),
            operations=operations_pb2_grpc.OperationsStub(channel),
        )


@pytest.fixture
def ended(registry: SimpleNamespace, worker: None) -> Callable[[Any], Awaitable[Any]]:
    """Wait for an operation and unpack its result, or raise its error."""

    async def wait(operation: Any) -> Any:
        for _ in range(6):
            request = operations_pb2.WaitOperationRequest(name=operation.name, timeout=Duration(seconds=20))
            operation = await registry.operations.WaitOperation(request, timeout=30)
            if operation.done:
                break
        assert operation.done, operation
        if operation.HasField("error"):
            error = from_status(operation.error)
            assert isinstance(error, PalimpsestError)
            raise error
        result = next(kind() for kind in RESULTS if operation.response.Is(kind.DESCRIPTOR))
        operation.response.Unpack(result)
        return result

    return wait


@pytest.fixture
def room(valkey: ValkeyServer, tmp_path: Path, tiny_model: Path) -> Attempts:
    """A worker's resources, and a way to run attempts at a job with them."""
    return Attempts(worker_resources(room_settings(valkey, tmp_path), tiny=tiny_model))
