"""What stays of a request that has ended, and how long: what a retried job goes on from, and nothing else."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.disk import disk_full
from palimpsest.errors import ResourceExhausted
from palimpsest.jobs import JobStore
from palimpsest.jobs.replies import Claim
from palimpsest.progress import Drain, NullProgress
from services.unlearning.requests.records import RemovalCatalogue
from services.unlearning.requests.settling import Settler
from services.unlearning.requests.sweeping import RequestSweep
from services.unlearning.workspace import Workspace
from tests.integration.unlearning.test_requests import Stops, is_folder, submitted, weights

TRAINING = {"steps": 4, "learning_rate": 1e-3, "batch": 4, "seed": 7, "checkpoint_steps": 1}


@pytest.fixture
def jobs(resources) -> JobStore:
    return JobStore(resources.redis, resources.settings)


@pytest.fixture
def sweep(resources, jobs) -> RequestSweep:
    requests = RemovalCatalogue(resources.redis, resources.settings.redis_prefix)
    settler = Settler(requests, jobs, resources.settings)
    return RequestSweep(requests, settler, resources.settings)


def space_of(resources, name: str) -> Workspace:
    return Workspace(resources.settings, "local", name.rpartition("/")[2])


class Steps(NullProgress):
    """Remembers the steps of the training that are told."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def step(self, done: int, total: int, stage: str = "") -> None:
        if stage.startswith("training"):
            self.steps.append(done)


def failed_for_want_of_room(jobs: JobStore, job: str) -> None:
    """Let the job end as the worker would."""
    record = jobs.claim(job.removeprefix("operations/"), "an owner", "a worker")
    assert record is not None
    jobs.fail(Claim(record.id, record.attempt, record.owner, record.worker), disk_full("a test"))


async def stopped_by_a_full_disk(client, plan, carry_out, resources, jobs) -> tuple[dict, str, str]:
    fields = await plan(training=TRAINING)
    name, job = await submitted(client, fields)
    with pytest.raises(ResourceExhausted):
        await asyncio.to_thread(carry_out, job, Stops("training", 4, disk_full("a checkpoint")))
    failed_for_want_of_room(jobs, job)
    return fields, name, job


async def test_a_request_that_had_no_room_goes_on_from_its_last_state(
    client, plan, carry_out, resources, jobs, sweep
):
    whole = await plan(training=TRAINING)
    _, job = await submitted(client, whole)
    await asyncio.to_thread(carry_out, job)
    fields, name, job = await stopped_by_a_full_disk(client, plan, carry_out, resources, jobs)
    await asyncio.to_thread(sweep.run)
    found = await client.unlearning.get_removal_request(name=name)
    assert (found.state, found.error.code) == (pb.REMOVAL_STATE_FAILED, 8)
    await client.jobs.retry(job)
    again = Steps()
    done = await asyncio.to_thread(carry_out, job, again)
    assert again.steps[0] == 3
    assert done.state == pb.REMOVAL_STATE_SUCCEEDED
    assert weights(resources, fields["new_model"]) == weights(resources, whole["new_model"])
    assert not is_folder(str(space_of(resources, name).folder))


async def test_what_a_request_could_go_on_from_goes_with_its_job(
    client, plan, carry_out, resources, jobs, sweep
):
    _, name, job = await stopped_by_a_full_disk(client, plan, carry_out, resources, jobs)
    space = space_of(resources, name)
    assert is_folder(str(space.checkpoints))
    await client.jobs.delete(job)
    await asyncio.to_thread(sweep.run)
    assert not is_folder(str(space.folder))
    assert (await client.unlearning.get_removal_request(name=name)).state == pb.REMOVAL_STATE_FAILED


async def test_a_folder_in_which_an_attempt_works_stays(client, plan, carry_out, resources, sweep):
    name, job = await submitted(client, await plan(training=TRAINING))
    with pytest.raises(Drain):
        await asyncio.to_thread(carry_out, job, Stops("training", 3, Drain("job")))
    await asyncio.to_thread(sweep.run)
    assert is_folder(str(space_of(resources, name).checkpoints))
    again = Steps()
    await asyncio.to_thread(carry_out, job, again)
    assert again.steps[0] == 2


async def test_what_was_cancelled_unnoticed_goes_and_is_noted_once(
    client, plan, carry_out, resources, jobs, sweep
):
    name, job = await submitted(client, await plan(training=TRAINING))
    with pytest.raises(Drain):
        await asyncio.to_thread(carry_out, job, Stops("training", 3, Drain("job")))
    jobs.cancel(job.removeprefix("operations/"))
    await asyncio.gather(*(asyncio.to_thread(sweep.run) for _ in range(3)))
    assert not is_folder(str(space_of(resources, name).folder))
    log = b"".join([part.data async for part in client.unlearning.read_audit_log()]).decode()
    ours = [line for line in log.splitlines() if f'"{name.rpartition("/")[2]}"' in line]
    assert sum('"CANCELLED"' in line for line in ours) == 1


async def test_what_says_of_nobody_goes_once_it_is_old(resources, sweep):
    settings = resources.settings
    young, old = (Workspace(settings, "nobody", name) for name in ("young", "old"))
    days = time.time() - 2 * 24 * 3600
    for space in (young, old):
        space.write("before.json", [])
        made(space.made)
    for path in (old.folder / "before.json", old.folder):
        os.utime(path, (days, days))
    await asyncio.to_thread(sweep.run)
    assert is_folder(str(young.folder))
    assert not is_folder(str(old.folder))
    os.utime(old.made, (days, days))
    await asyncio.to_thread(sweep.run)
    assert is_folder(str(young.made))
    assert not is_folder(str(old.made))
    young.delete()


def made(folder: Path) -> None:
    folder.mkdir(parents=True)
