"""The asyncio store: the same answers, watching without missing anything, and a reconciler that keeps going."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis
import redis.asyncio

from palimpsest.errors import NotFound, Unavailable
from palimpsest.jobs import AsyncJobStore, JobStore, Reconciler
from palimpsest.settings import Settings
from tests.unit.jobs.harness import echo, run_of
from tests.waiting import until_async


@pytest.fixture
async def announced() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def jobs(settings: Settings, announced: list[tuple[str, str]]) -> AsyncIterator[AsyncJobStore]:
    client = redis.asyncio.Redis.from_url(settings.redis_url)
    store = AsyncJobStore(client, settings, announce=lambda job, queue: announced.append((job, queue)))
    yield store
    await store.close()
    await client.aclose()


@pytest.fixture
def worker(client: redis.Redis, settings: Settings) -> JobStore:
    return JobStore(client, settings)


async def test_both_stores_see_one_job(jobs: AsyncJobStore, worker: JobStore, announced: list):
    record = await jobs.submit(echo())
    assert announced == [(record.id, "cpu")]
    assert worker.get(record.id) == record == await jobs.get(record.id)
    assert (await jobs.list()).records == worker.list().records
    assert (await jobs.cancel(record.id)).state == "CANCELLED"
    assert (await jobs.retry(record.id)).state == "QUEUED"
    await jobs.cancel(record.id)
    await jobs.delete(record.id)
    with pytest.raises(NotFound):
        await jobs.get(record.id)


async def test_a_watcher_sees_the_present_every_change_and_the_end(jobs: AsyncJobStore, worker: JobStore):
    job_id = (await jobs.submit(echo())).id
    seen = []

    async def watch() -> None:
        async for record in jobs.watch(job_id):
            seen.append((record.state, record.revision))

    task = asyncio.create_task(watch())
    await until_async(lambda: _value(len(seen) == 1))
    run = run_of(worker.claim(job_id, "one", "worker"))
    await until_async(lambda: _value(len(seen) == 2))
    worker.succeed(run, "google.protobuf.StringValue", '"x"', {})
    await asyncio.wait_for(task, 10)
    assert seen == [("QUEUED", 1), ("RUNNING", 2), ("SUCCEEDED", 3)]
    assert [r.revision async for r in jobs.watch(job_id, since=2)] == [3]
    assert [r.revision async for r in jobs.watch(job_id, since=3)] == []


async def test_a_change_between_reading_and_listening_is_not_missed(jobs: AsyncJobStore, worker: JobStore):
    job_id = (await jobs.submit(echo())).id
    watching = jobs.watch(job_id)
    await anext(watching)
    worker.cancel(job_id)  # while nobody reads from the watcher
    assert (await asyncio.wait_for(anext(watching), 3)).state == "CANCELLED"


async def test_a_watched_job_that_is_deleted_ends_the_watch(jobs: AsyncJobStore, worker: JobStore):
    job_id = (await jobs.submit(echo())).id
    watching = jobs.watch(job_id)
    await anext(watching)
    worker.cancel(job_id)
    worker.delete(job_id)
    with pytest.raises(NotFound):
        await asyncio.wait_for(anext(watching), 10)


async def test_watching_survives_a_lost_connection(
    jobs: AsyncJobStore, worker: JobStore, client: redis.Redis
):
    job_id = (await jobs.submit(echo())).id
    watching = jobs.watch(job_id)
    await anext(watching)
    following = asyncio.create_task(anext(watching))
    await until_async(lambda: _value(client.pubsub_numsub(f"{jobs.prefix}jobs:events")[0][1] == 1))
    client.client_kill_filter(_type="pubsub")
    worker.cancel(job_id)
    assert (await asyncio.wait_for(following, 15)).state == "CANCELLED"


async def test_many_watchers_share_one_connection(jobs: AsyncJobStore, worker: JobStore, client: redis.Redis):
    job_id = (await jobs.submit(echo())).id
    watchers = [asyncio.create_task(_all(jobs, job_id)) for _ in range(50)]
    await until_async(lambda: _value(client.pubsub_numsub(f"{jobs.prefix}jobs:events")[0][1] == 1))
    worker.cancel(job_id)
    for states in await asyncio.wait_for(asyncio.gather(*watchers), 10):
        assert states[-1] == "CANCELLED"


async def test_wait_returns_at_the_end_or_at_the_timeout(jobs: AsyncJobStore, worker: JobStore):
    job_id = (await jobs.submit(echo())).id
    assert (await jobs.wait(job_id, 0)).state == "QUEUED"
    assert (await jobs.wait(job_id, 0.05)).state == "QUEUED"
    waiting = asyncio.create_task(jobs.wait(job_id, 30))
    worker.cancel(job_id)
    assert (await waiting).state == "CANCELLED"
    assert (await jobs.wait(job_id, 0)).state == "CANCELLED"
    with pytest.raises(NotFound):
        await jobs.wait("unknown", 1)


async def test_the_reconciler_announces_what_was_lost(jobs: AsyncJobStore, worker: JobStore, announced: list):
    job_id = (await jobs.submit(echo())).id
    run = run_of(worker.claim(job_id, "one", "worker"))
    worker.release(run)
    announced.clear()
    loops = [asyncio.create_task(Reconciler(jobs, interval=0.05).run()) for _ in range(3)]
    await until_async(lambda: _value(announced))
    for loop in loops:
        loop.cancel()
    assert announced == [(job_id, "cpu")]  # by one of the three


async def test_the_reconciler_outlives_an_outage_and_spares_leases_after_it(jobs: AsyncJobStore):
    outage = [Unavailable("JOB_STORE_UNAVAILABLE", "away"), RuntimeError("a bug")]
    lapses = []
    sweep = jobs.sweep

    async def disturbed(*, lapse: bool = True):
        lapses.append(lapse)
        if outage:
            raise outage.pop(0)
        return await sweep(lapse=lapse)

    jobs.sweep = disturbed  # type: ignore[method-assign]
    loop = asyncio.create_task(Reconciler(jobs, interval=0.01).run())
    await until_async(lambda: _value(len(lapses) > 3))
    loop.cancel()
    assert lapses[0] is True
    assert not any(lapses[1:4])


async def _value(value: object) -> object:
    return value


async def _all(jobs: AsyncJobStore, job_id: str) -> list[str]:
    return [record.state async for record in jobs.watch(job_id)]
