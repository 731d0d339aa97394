"""Trainings on a disk that is really full: the last state stays whole, and with room they go on from it, bit by bit.

The worker's runner is called here and now, so that the disk fills up at the right moment.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from palimpsest import AsyncClient
from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.disk import file_sha256
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import ResourceExhausted
from palimpsest.jobs import WorkerResources
from palimpsest.jobs.handlers import Handler, registered
from palimpsest.jobs.runner import Runner
from palimpsest.jobs.store import JobStore
from palimpsest.settings import Settings
from palimpsest.training.checkpoints import MANIFEST
from services.registry import RegistryRoom, tasks
from services.unlearning import UnlearningRoom
from services.unlearning.tasks import remove
from services.unlearning.workspace import Workspace
from tests.disks import SmallDisk, small_disk
from tests.integration.jobs.guarded import serving
from tests.integration.unlearning import data
from tests.integration.unlearning.test_requests import is_folder
from tests.rooms import room_settings, worker_resources

STEPS, BETWEEN = 6, 2
HANDLERS = (tasks.fine_tune, remove)
"""Imported, and so registered."""

Submit = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    with small_disk(tmp_path_factory.mktemp("full") / "disk", 32) as disk:
        yield disk


@pytest.fixture(scope="module")
async def served(valkey: ValkeyServer, disk: SmallDisk) -> AsyncIterator[Settings]:
    settings = room_settings(valkey, disk.root / "state")
    async with serving(settings, [RegistryRoom(), UnlearningRoom()], None) as served:
        yield served


@pytest.fixture(scope="module")
def resources(served: Settings, tiny_model: Path) -> WorkerResources:
    return worker_resources(served, base=tiny_model)


@pytest.fixture(scope="module")
def jobs(resources: WorkerResources) -> JobStore:
    return JobStore(resources.redis, resources.settings)


@pytest.fixture(scope="module")
def file_bytes(tiny_model: Path) -> int:
    """Size of the model's weights in float32; a training state has three times that."""
    return (tiny_model / "model.safetensors").stat().st_size


class Fills:
    """A progress that fills the disk at a stage."""

    def __init__(self, inner: Any, disk: SmallDisk, stage: str) -> None:
        self._inner, self._disk, self._stage = inner, disk, stage

    def step(self, done: int, total: int, stage: str = "") -> None:
        if stage == self._stage:
            self._disk.fill()
        self._inner.step(done, total, stage)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture(scope="module")
def run(resources: WorkerResources, jobs: JobStore, disk: SmallDisk) -> Callable[..., Awaitable[None]]:
    """Run a job as a worker does; at a stage the disk fills up."""

    async def run(operation: str, full_at: str = "") -> None:
        def find(kind: str) -> Handler | None:
            code = registered(kind)
            assert code is not None

            def handle(request: Any, job: Any) -> Any:
                progress: Any = Fills(job.progress, disk, full_at) if full_at else job.progress
                return code.run(request, replace(job, progress=progress))

            return code._replace(run=handle)

        runner = Runner(jobs, resources, find, "a worker")
        await asyncio.to_thread(runner.run, operation.removeprefix("operations/"))

    return run


@pytest.fixture(scope="module")
async def client(served: Settings) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(served.listen) as client:
        yield client


@pytest.fixture(scope="module")
async def start(client: AsyncClient) -> Submit:
    """Submit a removal; its id and its new model have one name."""
    sets = {"forget": data.FORGET, "retain": data.RETAIN, "holdout": data.HOLDOUT}
    digests = {name: (await client.artifacts.upload(content)).digest for name, content in sets.items()}

    async def start(name: str, between: int = BETWEEN) -> Any:
        training = {"steps": STEPS, "learning_rate": 1e-3, "batch": 4, "checkpoint_steps": between}
        plan = {"model": "base", "new_model": name, "algorithm": "ga_gdr", "training": training, **digests}
        return await client.unlearning.create_removal_request(plan=plan, removal_id=name)

    return start


@pytest.fixture(scope="module")
async def whole(start: Submit, run: Any, client: AsyncClient, resources: WorkerResources) -> Any:
    """What came of a request that nobody disturbed."""
    job = await start("whole")
    await run(job.name)
    assert (await job.result(timeout=60)).state == pb.REMOVAL_STATE_SUCCEEDED
    return await made(client, resources, "whole")


async def made(client: AsyncClient, resources: WorkerResources, name: str) -> tuple[pb.Result, bytes]:
    """What came of a request but what is its own alone, and the new model's weights."""
    found = await client.unlearning.get_removal_request(name=f"removalRequests/{name}")
    result = pb.Result()
    result.CopyFrom(found.result)
    result.ClearField("certificate")  # it has the time in it
    result.forget.ClearField("manifest")  # and this a salt
    result.ClearField("other_requests")  # those that were carried out before
    assert result.attacks
    return result, weights_in(Workspace(resources.settings, "local", name).registered)


def weights_in(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


async def failed(job: Any, reason: str = "DISK_FULL") -> str:
    """The message of a job that met the full disk."""
    with pytest.raises(ResourceExhausted) as caught:
        await job.result(timeout=60)
    assert caught.value.reason == reason
    return caught.value.message


def require_intact(state: Path, steps: int) -> None:
    """Check that a training state has all its bytes, and loads."""
    manifest = json.loads((state / MANIFEST).read_text())
    assert len(manifest["history"]["losses"]) == steps
    for name, digest in manifest["files"].items():
        assert file_sha256(state / name) == digest
        assert load_file(state / name)


def names(folder: Path, pattern: str = "*") -> list[Path]:
    return list(folder.glob(pattern))


@pytest.mark.parametrize(
    ("place", "between", "room", "steps"),
    [("a checkpoint", BETWEEN, 5.0, BETWEEN), ("the trained model", STEPS, 3.5, STEPS)],
)
async def test_a_request_goes_on_from_its_last_state_once_there_is_room(
    client, start, run, whole, resources, disk, file_bytes, place, between, room, steps
):
    """With room for one state, but not for another beside it; and for a state, but not for the model."""
    name = place.replace(" ", "-")
    disk.fill(left=int(room * file_bytes))
    job = await start(name, between)
    await run(job.name)
    assert place in await failed(job)
    found = await client.unlearning.get_removal_request(name=f"removalRequests/{name}")
    assert (found.state, found.error.code) == (pb.REMOVAL_STATE_FAILED, 8)
    space = Workspace(resources.settings, "local", name)
    (state,) = names(space.checkpoints)
    require_intact(state, steps)
    assert not names(resources.settings.models_dir, f".unlearned-{space.key}*")
    disk.empty()
    job = await client.jobs.retry(job.name)
    await run(job.name)
    assert (await job.result(timeout=60)).state == pb.REMOVAL_STATE_SUCCEEDED
    assert await made(client, resources, name) == whole
    assert not is_folder(str(space.folder))


async def test_a_request_whose_certificate_has_no_room_gets_it_once_there_is(
    client, start, run, whole, resources, disk
):
    job = await start("certificate")
    await run(job.name, full_at="deciding")
    message = await failed(job)
    assert "certificate" in message or "audit log" in message
    space = Workspace(resources.settings, "local", "certificate")
    (state,) = names(space.checkpoints)
    require_intact(state, STEPS)
    disk.empty()
    found = await client.unlearning.get_removal_request(name="removalRequests/certificate")
    assert (found.state, found.error.code) == (pb.REMOVAL_STATE_FAILED, 8)
    job = await client.jobs.retry(job.name)
    await run(job.name)
    assert (await job.result(timeout=60)).state == pb.REMOVAL_STATE_SUCCEEDED
    assert await made(client, resources, "certificate") == whole
    log = b"".join([part.data async for part in client.unlearning.read_audit_log()]).decode()
    ours = [line for line in log.splitlines() if '"certificate"' in line]
    assert sum('"CERTIFICATE_ISSUED"' in line for line in ours) == 1
    assert (await client.unlearning.get_certificate(name="removalRequests/certificate")).certificate


@pytest.fixture(scope="module")
async def tune(client: AsyncClient) -> Submit:
    """Submit a fine-tuning."""
    lines = data.lines(*({"text": data.kept(number)["text"]} for number in range(6)))
    train = (await client.artifacts.upload(lines)).digest

    async def start(name: str, between: int = BETWEEN) -> Any:
        fields = {"base": "base", "model_id": name, "train": train, "steps": STEPS, "batch": 3}
        return await client.models.fine_tune(**fields, checkpoint_every=between)

    return start


@pytest.fixture(scope="module")
async def tuned(tune: Submit, run: Any) -> Any:
    """A fine-tuning that nobody disturbed."""
    job = await tune("tuned")
    await run(job.name)
    return await job.result(timeout=60)


@pytest.mark.parametrize(
    ("name", "between", "room", "steps"),
    [("first-state", BETWEEN, 4.5, 0), ("second-state", BETWEEN, 8.0, BETWEEN), ("model", 1000, 0.5, 0)],
)
async def test_a_fine_tuning_goes_on_from_its_last_state_once_there_is_room(
    client, tune, run, tuned, resources, jobs, disk, file_bytes, tmp_path, name, between, room, steps
):
    """A state is written beside the models, then stored as artefacts: it takes six times the weights."""
    store = resources.artifacts
    before = {info.digest for info in store.list(1000)[0]}
    disk.fill(left=int(room * file_bytes))
    job = await tune(name, between)
    await run(job.name)
    await failed(job, "STORE_FULL" if name == "first-state" else "DISK_FULL")
    assert not names(resources.settings.models_dir, ".training-*")
    record = jobs.get(job.name.removeprefix("operations/"))
    kept = json.loads(record.checkpoint) if record.checkpoint else {"files": [], "artifact": "", "step": 0}
    assert kept["step"] == steps
    stored = {*kept["files"], kept["artifact"]} - {""}
    assert {info.digest for info in store.list(1000)[0]} - before == stored
    if steps:
        manifest = store.read_bytes(kept["artifact"])
        (tmp_path / MANIFEST).write_bytes(manifest)
        for file, digest in json.loads(manifest)["files"].items():
            (tmp_path / file).write_bytes(store.read_bytes(f"sha256:{digest}"))
        require_intact(tmp_path, steps)
    disk.empty()
    job = await client.jobs.retry(job.name)
    await run(job.name)
    again = await job.result(timeout=60)
    assert again.model.fingerprint == tuned.model.fingerprint
    assert again.curve.digest == tuned.curve.digest
