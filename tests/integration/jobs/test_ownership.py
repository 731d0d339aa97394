"""A job is its caller's: to everybody else it does not exist."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from palimpsest import AsyncClient
from palimpsest.errors import Cancelled, NotFound, PermissionDenied, Reason
from palimpsest.jobs import JobStore
from palimpsest.settings import Settings
from services.registry import RegistryRoom
from tests.integration.jobs.guarded import serving, write_tokens
from tests.unit.jobs.harness import run_of

SCOPES = {"ann": ["jobs.*", "admin.artifacts"], "bob": ["jobs.*", "admin.artifacts"], "root": ["*"]}


@pytest.fixture
async def served(settings: Settings, tmp_path: Path) -> AsyncIterator[Settings]:
    tokens = tmp_path / "tokens.json"
    write_tokens(tokens, SCOPES)
    async with serving(settings, [RegistryRoom()], tokens) as served:
        yield served


@pytest.fixture
async def clients(served: Settings) -> AsyncIterator[dict[str, AsyncClient]]:
    clients = {name: AsyncClient(served.listen, token=name) for name in SCOPES}
    yield clients
    for client in clients.values():
        await client.close()


VERBS: dict[str, Callable[[AsyncClient, str], Any]] = {
    "get": lambda client, name: client.jobs.get(name),
    "wait": lambda client, name: client.jobs.wait(name, timeout=5),
    "watch": lambda client, name: anext(aiter(client.job(name))),
    "partials": lambda client, name: anext(aiter(client.job(name).partials())),
    "cancel": lambda client, name: client.jobs.cancel(name),
    "delete": lambda client, name: client.jobs.delete(name),
    "retry": lambda client, name: client.jobs.retry(name),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_another_callers_job_does_not_exist(clients, verb):
    job = await clients["ann"].artifacts.collect_garbage(dry_run=True)
    with pytest.raises(NotFound) as theirs:
        await VERBS[verb](clients["bob"], job.name)
    missing = "operations/0123"
    with pytest.raises(NotFound) as none:
        await VERBS[verb](clients["bob"], missing)
    assert theirs.value.reason == none.value.reason == Reason.JOB_NOT_FOUND
    assert str(theirs.value).replace(job.name.removeprefix("operations/"), "0123") == str(none.value)
    assert not (await clients["ann"].jobs.get(job.name)).done


async def test_a_caller_reaches_their_own_jobs_and_lists_no_others(clients):
    mine = await clients["ann"].artifacts.collect_garbage(dry_run=True)
    theirs = await clients["bob"].artifacts.collect_garbage(dry_run=True)
    for name, expected in {
        "ann": {mine.name},
        "bob": {theirs.name},
        "root": {mine.name, theirs.name},
    }.items():
        listed = await clients[name].jobs.list(filter="kind=artifacts.collect_garbage")
        assert {operation.name for operation in listed.operations} == expected
    first = await clients["ann"].jobs.list(page_size=1)
    assert not first.next_page_token
    await clients["ann"].jobs.cancel(mine.name)
    with pytest.raises(Cancelled):
        await clients["ann"].job(mine.name).result(timeout=10)
    retried = await clients["ann"].jobs.retry(mine.name)
    assert not await retried.done()
    await retried.cancel()
    await clients["ann"].jobs.delete(mine.name)


async def test_an_administrator_reaches_every_job(clients):
    job = await clients["ann"].artifacts.collect_garbage(dry_run=True)
    await clients["root"].jobs.cancel(job.name)
    assert (await clients["root"].jobs.wait(job.name, timeout=10)).done
    assert (await clients["ann"].jobs.get(job.name)).error.code == 1


async def test_the_same_request_id_of_two_callers_is_two_jobs(clients):
    jobs = [
        await clients[name].artifacts.collect_garbage(request_id="r", dry_run=True) for name in ("ann", "bob")
    ]
    assert jobs[0].name != jobs[1].name


async def test_a_caller_without_the_scope_does_not_reach_even_their_own(served, tmp_path):
    write_tokens(tmp_path / "tokens.json", {"ann": ["admin.artifacts"]})
    async with AsyncClient(served.listen, token="ann") as client:
        job = await client.artifacts.collect_garbage(dry_run=True)
        with pytest.raises(PermissionDenied):
            await client.jobs.get(job.name)


async def test_a_job_in_a_queue_that_nobody_serves_says_so(served, clients):
    job = await clients["ann"].artifacts.collect_garbage(dry_run=True)
    waiting = await job.progress()
    assert "'cpu'" in waiting.waiting_reason
    assert "PALIMPSEST_WORKER_QUEUES" in waiting.waiting_reason
    with redis.Redis.from_url(served.redis_url) as connection:
        store = JobStore(connection, served)
        await asyncio.to_thread(store.beat, "here:1:a", 60, ["cpu"])
        assert not (await job.progress()).waiting_reason
        run = run_of(
            await asyncio.to_thread(store.claim, job.name.removeprefix("operations/"), "o", "here:1:a")
        )
        await asyncio.to_thread(store.release, run)


async def test_a_job_that_waits_for_others_says_for_how_many(served, clients):
    with redis.Redis.from_url(served.redis_url) as connection:
        store = JobStore(connection, served)
        await asyncio.to_thread(store.beat, "here:1:a", 60, ["cpu"])
        jobs = []
        for who in ("ann", "bob", "ann"):
            jobs.append(
                await clients[who].artifacts.collect_garbage(dry_run=True, grace_seconds=len(jobs) + 1)
            )
        reasons = [(await job.progress()).waiting_reason for job in jobs]
        assert reasons == [
            "",
            "waiting behind 1 job of the queue 'cpu'",
            "waiting behind 2 jobs of the queue 'cpu'",
        ]
        first = jobs[0].name.removeprefix("operations/")
        run = run_of(await asyncio.to_thread(store.claim, first, "o", "here:1:a"))
        assert (await jobs[1].progress()).waiting_reason == reasons[1], "one that runs is waited for too"
        await asyncio.to_thread(store.release, run)
