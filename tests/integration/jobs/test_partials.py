"""Partial results over the wire: as they are published, in order, each once, through cuts."""

from pathlib import Path

import pytest
import redis
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

from palimpsest import AsyncClient, Client
from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.client import PartialResult
from palimpsest.client.partials import partial_of
from palimpsest.errors import Cancelled, DeadlineExceeded
from palimpsest.jobs import JobSpec, JobStore
from palimpsest.jobs.replies import Claim
from palimpsest.settings import Settings
from services.registry import RegistryRoom
from tests.integration.client.proxy import CuttingProxy
from tests.integration.client.twins import Twin
from tests.integration.jobs.guarded import serving
from tests.integration.jobs.harness import Bench
from tests.unit.jobs.harness import run_of
from tests.waiting import until


@pytest.fixture
async def served(settings: Settings):
    async with serving(settings, [RegistryRoom()], None) as served:
        yield served


@pytest.fixture
def store(served: Settings):
    with redis.Redis.from_url(served.redis_url) as connection:
        yield JobStore(connection, served)


@pytest.fixture
def run(store: JobStore) -> Claim:
    record = store.submit(JobSpec(kind="test.partials", request=StringValue(), principal="local"))
    return run_of(store.claim(record.id, "owner", "worker"))


def add(store: JobStore, run: Claim, *numbers: int) -> None:
    for number in numbers:
        assert store.add_partial(run, StringValue(value=str(number)), number)


def end(store: JobStore, run: Claim) -> None:
    assert store.succeed(run, "google.protobuf.StringValue", '"end"', {})


def read(partials: list[PartialResult]) -> list[tuple[int, str]]:
    return [(partial.sequence, partial.value.value) for partial in partials]  # type: ignore[attr-defined]


@pytest.fixture(params=[Client, AsyncClient])
async def twin(request, served):
    twin = Twin(request.param(served.listen))
    yield twin
    await twin.close()


async def test_they_come_while_the_job_runs_and_end_with_it(twin, store, run):
    job = twin.client.job(f"operations/{run.job_id}")
    add(store, run, 1, 2)
    seen = []
    async for partial in twin.each(job.partials()):
        seen.append(partial)
        if partial.sequence == 2:
            add(store, run, 3)
        elif partial.sequence == 3:
            end(store, run)
    assert read(seen) == [(1, "1"), (2, "2"), (3, "3")]
    assert {partial.attempt for partial in seen} == {1}
    assert read([p async for p in twin.each(job.partials(since=2))]) == [(3, "3")]
    assert (await twin.call(job.result)).value == "end"


async def test_iterating_over_the_job_gives_each_once(twin, store, run):
    add(store, run, 1)
    numbers = []
    async for seen in twin.each(twin.client.job(f"operations/{run.job_id}")):
        numbers += [partial.sequence for partial in seen.partials]
        if numbers == [1]:
            add(store, run, 2)
        elif seen.state == jobs_pb2.JOB_STATE_RUNNING:
            end(store, run)
    assert numbers == [1, 2]


async def test_whoever_does_not_ask_for_them_gets_none(twin, store, run):
    add(store, run, 1)
    end(store, run)
    operation = await twin.call(twin.client.jobs.get, f"operations/{run.job_id}")
    metadata = jobs_pb2.JobMetadata()
    operation.metadata.Unpack(metadata)
    assert not metadata.partials
    operation = await twin.call(twin.client.job(operation.name).wait)
    operation.metadata.Unpack(metadata)
    assert not metadata.partials


async def test_a_connection_that_is_cut_repeats_and_loses_nothing(twin, served, store, run):
    async with CuttingProxy(served.listen, [1_500, 1_500]) as proxy:
        cut = Twin(type(twin.client)(proxy.target))
        seen = []
        add(store, run, 1)
        async for partial in cut.each(cut.client.job(f"operations/{run.job_id}").partials()):
            seen.append(partial.sequence)
            if partial.sequence < 40:
                add(store, run, partial.sequence + 1)
                if partial.sequence % 10 == 0:
                    proxy.cut_all()
            else:
                end(store, run)
        await cut.close()
        assert seen == list(range(1, 41))
        assert proxy.connections >= 3


async def test_a_timeout_and_a_cancellation_end_the_iteration(twin, store, run):
    job = twin.client.job(f"operations/{run.job_id}")
    with pytest.raises(DeadlineExceeded):
        assert [p async for p in twin.each(job.partials(timeout=0.2))] == []
    await twin.call(job.cancel)
    store.release(run)
    assert [p async for p in twin.each(job.partials())] == []
    with pytest.raises(Cancelled):
        await twin.call(job.result)


def test_a_type_this_client_does_not_know_stays_packed():
    packed = AnyMessage(type_url="type.googleapis.com/some.later.Type", value=b"x")
    assert partial_of(jobs_pb2.PartialResult(sequence=1, value=packed, attempt=1)).value == packed


def test_a_handler_publishes_them_from_a_worker(bench: Bench):
    bench.worker()
    job_id = bench.submit("partials", count=3)
    for number in range(3):
        (Path(bench.folder) / f"{job_id}.{number}").touch()
        until(lambda number=number: len(bench.store.partials(job_id)) == number + 1)
        assert bench.store.get(job_id).state in ("RUNNING", "SUCCEEDED")
    bench.until_state(job_id, "SUCCEEDED")
    values = [Struct.FromString(partial.value)["number"] for partial in bench.store.partials(job_id)]
    assert values == [0, 1, 2]
