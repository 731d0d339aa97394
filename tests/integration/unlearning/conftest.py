"""A server of the rooms that a request reaches, and the job's own handler to run here and now."""

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from palimpsest import AsyncClient
from palimpsest.api.models.v1.models_pb2 import FineTuneRequest
from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.jobs import JobContext, WorkerResources
from palimpsest.jobs.store import JobStore
from palimpsest.progress import NullProgress
from palimpsest.settings import Settings
from services.codec import CodecRoom
from services.datastore import DatastoreRoom
from services.registry import RegistryRoom
from services.registry.tasks import fine_tune
from services.unlearning import UnlearningRoom
from services.unlearning.tasks import remove
from tests.integration.jobs.guarded import serving
from tests.integration.unlearning import data
from tests.rooms import room_settings, worker_resources
from tests.tiny import write_tiny_model


@pytest.fixture(scope="module")
async def served(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    settings = room_settings(valkey, tmp_path_factory.mktemp("unlearning"))
    rooms = [RegistryRoom(), CodecRoom(), DatastoreRoom(), UnlearningRoom()]
    async with serving(settings, rooms, None) as served:
        yield served


@pytest.fixture(scope="module")
def resources(
    served: Settings, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> WorkerResources:
    """What a worker has; "tiny" is registered, and "other" of the same tokenizer."""
    other = write_tiny_model(tmp_path_factory.mktemp("other-llama"), seed=1)
    return worker_resources(served, tiny=tiny_model, other=other)


@pytest.fixture(scope="module")
def taught(resources: WorkerResources) -> None:
    """Models that can be compared: "knows" was trained on everything, "never" not on what is to be forgotten."""
    texts = {
        "knows": [*map(data.secret, range(6)), *map(data.kept, range(6))],
        "never": [*map(data.kept, range(6))],
    }
    for model_id, rows in texts.items():
        lines = data.lines(*({"text": row["text"]} for row in rows))
        digest = resources.artifacts.put_bytes(lines, "application/jsonl").digest
        request = FineTuneRequest(
            base="tiny", model_id=model_id, train=digest, steps=60, learning_rate=5e-3, batch=6
        )
        fine_tune(request, JobContext(f"teach-{model_id}", "local", 1, NullProgress(), resources))


@pytest.fixture
async def client(served: Settings, resources: WorkerResources) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(served.listen) as client:
        yield client


@pytest.fixture
def plan(client: AsyncClient) -> Callable[..., Any]:
    """Upload the data sets and return the fields of a plan."""

    async def make(**changes: Any) -> dict[str, Any]:
        sets = {"forget": data.FORGET, "retain": data.RETAIN, "holdout": data.HOLDOUT}
        fields: dict[str, Any] = {
            "model": "tiny",
            "new_model": f"tiny-{uuid.uuid4().hex[:8]}",
            "algorithm": "ga_gdr",
            "training": {"steps": 3, "learning_rate": 1e-3, "batch": 4},
        }
        for name, content in sets.items():
            fields[name] = (await client.artifacts.upload(changes.pop(f"{name}_lines", content))).digest
        return {**fields, **changes}

    return make


@pytest.fixture(scope="module")
def carry_out(resources: WorkerResources) -> Callable[..., pb.RemovalRequest]:
    """Run the job of a recorded request here and now."""

    def run(name: str, progress: NullProgress | None = None) -> pb.RemovalRequest:
        record = JobStore(resources.redis, resources.settings).get(name.removeprefix("operations/"))
        context = JobContext(
            record.id, record.principal, 1, progress or NullProgress(), resources, record.inputs
        )
        request = record.request_message()
        assert isinstance(request, pb.CreateRemovalRequestRequest)
        return remove(request, context)

    return run
