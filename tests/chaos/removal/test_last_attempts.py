"""Workers on one state folder: one goes on where another was killed; what nobody goes on with does not stay."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from palimpsest import AsyncClient
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.settings import Settings
from palimpsest.training.checkpoints import MANIFEST
from services.registry import RegistryRoom
from services.unlearning import UnlearningRoom
from services.unlearning.workspace import Workspace
from tests.chaos.removal.conftest import LONG
from tests.integration.jobs.guarded import serving
from tests.integration.jobs.harness import Worker
from tests.integration.unlearning import data
from tests.rooms import room_settings
from tests.waiting import until_async

STEPS, BETWEEN = 300, 5
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]

Hire = Callable[[Settings], Worker]


@pytest.fixture
def hire(tmp_path: Path) -> Iterator[Hire]:
    """Start a worker."""
    workers: list[Worker] = []

    def start(settings: Settings) -> Worker:
        worker = Worker(settings, tmp_path / f"worker-{len(workers)}.log", PALIMPSEST_HANDLER_MODULES="")
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.kill()


@asynccontextmanager
async def installed(
    valkey: ValkeyServer, folder: Path, model: Path, hire: Hire, workers: int, attempts: int
) -> AsyncIterator[tuple[Settings, list[Worker], AsyncClient]]:
    """A server of two rooms in this process, and workers of their own, on one folder."""
    settings = room_settings(valkey, folder, lease_seconds=6.0, job_max_attempts=attempts)
    async with serving(settings, [RegistryRoom(), UnlearningRoom()], None) as served:
        hired = [hire(served) for _ in range(workers)]
        for worker in hired:
            await until_async(lambda worker=worker: ready(worker), LONG)
        async with AsyncClient(served.listen) as client:
            made = await client.models.register_model(model_id="base", source=str(model))
            await made.result(timeout=LONG)
            yield served, hired, client


async def ready(worker: Worker) -> bool:
    return worker.ready()


async def start(client: AsyncClient, name: str) -> Any:
    plan: dict[str, Any] = {
        "model": "base",
        "new_model": name,
        "algorithm": "ga_gdr",
        "forget": (await client.artifacts.upload(data.FORGET)).digest,
        "retain": (await client.artifacts.upload(data.RETAIN)).digest,
        "training": {"steps": STEPS, "learning_rate": 1e-4, "batch": 4, "checkpoint_steps": BETWEEN},
    }
    return await client.unlearning.create_removal_request(plan=plan, removal_id=name)


def newest(folder: Path) -> tuple[int, int]:
    """Number of the newest state, and the steps done by then; (-1, 0) for none, or one that is being replaced."""
    try:
        state = max(folder.glob("state-*"))
        steps = len(json.loads((state / MANIFEST).read_text())["history"]["losses"])
    except (ValueError, FileNotFoundError):
        return -1, 0
    return int(state.name.rpartition("-")[2]), steps


async def newest_after(folder: Path, number: int) -> tuple[int, int]:
    """The first state that is seen with a higher number."""
    found: list[tuple[int, int]] = []

    async def come() -> bool:
        found.append(newest(folder))
        return found[-1][0] > number

    await until_async(come, LONG, interval=0.005)
    return found[-1]


async def holder(job: Any, workers: list[Worker]) -> Worker:
    """The worker that has the job."""

    async def held() -> list[Worker]:
        name = (await job.progress()).worker
        return [each for each in workers if name and int(name.split(":")[1]) == each.process.pid]

    return (await until_async(held, LONG))[0]


def noted(log: Path) -> bool:
    """Whether the end of a request is in an audit log."""
    return '"FAILED"' in log.read_text()


async def test_another_worker_goes_on_from_the_state_of_one_that_was_killed(
    valkey, tmp_path, tiny_model, hire
):
    async with installed(valkey, tmp_path / "state", tiny_model, hire, 2, 2) as (settings, workers, client):
        job = await start(client, "killed")
        space = Workspace(settings, "local", "killed")
        first = await holder(job, workers)
        await newest_after(space.checkpoints, 3)
        first.kill()
        number, steps = newest(space.checkpoints)
        assert steps == (number + 1) * BETWEEN < STEPS
        # A run that had begun again would have fewer steps behind a state of this number.
        number, steps = await newest_after(space.checkpoints, number)
        assert steps == (number + 1) * BETWEEN
        killed = (await job.result(timeout=LONG)).result
        (other,) = (each for each in workers if each is not first)
        seen = await job.progress()
        assert (seen.attempt, int(seen.worker.split(":")[1])) == (2, other.process.pid)
        whole = (await (await start(client, "whole")).result(timeout=LONG)).result
        assert killed.new_model_fingerprint == whole.new_model_fingerprint
        assert list(killed.measurements) == list(whole.measurements)
        assert list(killed.attacks) == list(whole.attacks)


async def test_what_the_last_attempt_leaves_goes_though_nobody_looks(valkey, tmp_path, tiny_model, hire):
    async with installed(valkey, tmp_path / "state", tiny_model, hire, 1, 1) as (settings, workers, client):
        job = await start(client, "doomed")
        space = Workspace(settings, "local", "doomed")
        await newest_after(space.checkpoints, 1)
        workers[0].kill()
        assert is_there(space.checkpoints)
        await until_async(lambda: gone(space.folder), LONG)
        # What must not stay goes first; then the end is noted, once.
        log = next((settings.state_dir / "unlearning" / "audit").glob("*/log.jsonl"))
        await until_async(lambda: asyncio.to_thread(noted, log), LONG)
        assert (await asyncio.to_thread(log.read_text)).count('"FAILED"') == 1
        assert (await job.progress()).attempt == 1

        workers.append(hire(settings))
        await until_async(lambda: ready(workers[-1]), LONG)
        lines = data.lines(*({"text": data.kept(number)["text"]} for number in range(6)))
        train = (await client.artifacts.upload(lines)).digest
        fields: dict[str, Any] = {"base": "base", "model_id": "tuned", "train": train, "checkpoint_every": 5}
        await client.models.fine_tune(**fields, steps=3000)

        async def left() -> list[Path]:
            return list(settings.models_dir.glob(".training-*/states/state-*"))

        await until_async(left, LONG)
        os.killpg(workers[-1].process.pid, signal.SIGKILL)
        (folder,) = settings.models_dir.glob(".training-*")
        await until_async(lambda: gone(folder), LONG)


async def gone(folder: Path) -> bool:
    return not is_there(folder)


def is_there(folder: Path) -> bool:
    return folder.exists()
