"""Artefacts exist to those who hold them: over real calls, under a tokens file."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
from google.protobuf.wrappers_pb2 import StringValue

from palimpsest import AsyncClient
from palimpsest.api.artifacts.v1 import artifacts_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.errors import FailedPrecondition, NotFound, PermissionDenied, Reason
from palimpsest.jobs import JobSpec, JobStore
from palimpsest.settings import Settings
from services.registry import RegistryRoom
from tests.integration.jobs.guarded import serving, write_tokens
from tests.unit.jobs.harness import run_of

EVERYTHING = ["artifacts.*", "jobs.*"]
SCOPES = {"ann": EVERYTHING, "bob": EVERYTHING, "auditor": ["artifacts.*", "admin.artifacts"]}
NONE = "sha256:" + "0" * 64


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    write_tokens(tmp_path / "tokens.json", SCOPES)
    return tmp_path / "tokens.json"


@pytest.fixture
async def clients(settings: Settings, tokens: Path) -> AsyncIterator[dict[str, AsyncClient]]:
    async with serving(settings, [RegistryRoom()], tokens) as served:
        clients = {name: AsyncClient(served.listen, token=name) for name in SCOPES}
        yield clients
        for client in clients.values():
            await client.close()


@pytest.fixture
def connection(settings: Settings):
    with redis.Redis.from_url(settings.redis_url) as connection:
        yield connection


@pytest.fixture
def jobs(settings: Settings, connection) -> JobStore:
    return JobStore(connection, settings)


@pytest.fixture
def store(settings: Settings, connection) -> ArtifactStore:
    """What a worker writes to."""
    return ArtifactStore.from_settings(settings, connection)


def done(jobs: JobStore, principal: str, digest: str, **fields) -> str:
    """A job of a principal that has published an artefact, by name."""
    record = jobs.submit(JobSpec("test.echo", StringValue(value="x"), principal=principal, **fields))
    if record.state == "QUEUED":
        run = run_of(jobs.claim(record.id, f"run {record.id}", "worker"))
        jobs.publish(run, digest)
        jobs.succeed(run, "google.protobuf.StringValue", '"done"', {"stage": "", "done": 1, "total": 1})
    return record.name


async def refused(client: AsyncClient, digest: str) -> dict[str, str]:
    """What each call says of an artefact that is not there."""
    said = {}
    for name, call in {
        "get": lambda: client.artifacts.get_artifact(digest=digest),
        "read": lambda: client.artifacts.read_bytes(digest),
        "delete": lambda: client.artifacts.delete_artifact(digest=digest),
    }.items():
        with pytest.raises(NotFound) as missing:
            await call()
        assert missing.value.reason == Reason.ARTIFACT_NOT_FOUND
        said[name] = str(missing.value).replace(digest, "D")
    return said


async def test_an_upload_is_its_senders(clients):
    digest = (await clients["ann"].artifacts.upload(b"ann's letter")).digest
    assert await refused(clients["bob"], digest) == await refused(clients["bob"], NONE)
    assert (await clients["bob"].artifacts.find_missing(digests=[digest, NONE])).missing == [digest, NONE]
    assert (await clients["bob"].artifacts.list_artifacts()).artifacts == []
    assert await clients["ann"].artifacts.read_bytes(digest) == b"ann's letter"
    (listed,) = (await clients["ann"].artifacts.list_artifacts()).artifacts
    assert listed.digest == digest


async def test_equal_bytes_are_sent_by_each_and_deleted_for_each(clients):
    data = b"equal bytes"
    digest = (await clients["ann"].artifacts.upload(data)).digest
    sent: list[int] = []

    async def parts():
        yield pb.WriteArtifactRequest(open={"upload_id": "u", "digest": digest})
        sent.append(len(data))
        yield pb.WriteArtifactRequest(chunk={"offset": 0, "data": data})
        yield pb.WriteArtifactRequest(finish=True)

    assert (await clients["bob"].artifacts.write_artifact(parts())).digest == digest
    assert sent == [len(data)]
    await clients["ann"].artifacts.delete_artifact(digest=digest)
    assert await refused(clients["ann"], digest) == await refused(clients["ann"], NONE)
    assert await clients["bob"].artifacts.read_bytes(digest) == data
    status = await clients["bob"].artifacts.query_write_status(upload_id="u")
    assert status.complete


async def test_the_result_of_a_job_is_its_callers(clients, jobs, store):
    digest = store.put_bytes(b"the result").digest
    name = done(jobs, "ann", digest)
    got = await clients["ann"].artifacts.get_artifact(digest=digest)
    assert list(got.owners) == [name.replace("operations", "job")]
    assert await clients["ann"].artifacts.read_bytes(digest) == b"the result"
    assert await refused(clients["bob"], digest) == await refused(clients["bob"], NONE)
    with pytest.raises(FailedPrecondition) as used:
        await clients["ann"].artifacts.delete_artifact(digest=digest)
    assert used.value.metadata["owners"] == got.owners[0]


async def test_another_callers_job_neither_shows_nor_keeps_an_artefact_from_deletion(clients, jobs, store):
    digest = store.put_bytes(b"made by both").digest
    done(jobs, "ann", digest)
    await clients["bob"].artifacts.upload(b"made by both")
    assert list((await clients["bob"].artifacts.get_artifact(digest=digest)).owners) == []
    await clients["bob"].artifacts.delete_artifact(digest=digest)
    assert await refused(clients["bob"], digest) == await refused(clients["bob"], NONE)
    assert await clients["ann"].artifacts.read_bytes(digest) == b"made by both"


async def test_a_shared_result_is_read_by_both(clients, jobs, store):
    digest = store.put_bytes(b"equal work").digest
    for principal in ("ann", "bob"):
        name = done(jobs, principal, digest, action={"equal": "work"})
        got = await clients[principal].artifacts.get_artifact(digest=digest)
        assert list(got.owners) == [name.replace("operations", "job")]
    assert (await clients["bob"].artifacts.read_bytes(digest)) == b"equal work"


async def test_a_deleted_jobs_caller_still_holds_what_it_made(clients, jobs, store):
    digest = store.put_bytes(b"kept").digest
    await clients["ann"].jobs.delete(done(jobs, "ann", digest))
    got = await clients["ann"].artifacts.get_artifact(digest=digest)
    assert list(got.owners) == []
    await clients["ann"].artifacts.delete_artifact(digest=digest)
    assert await asyncio.to_thread(store.find, digest) is None


async def test_an_administrator_reaches_all_and_collects_garbage(clients):
    digest = (await clients["ann"].artifacts.upload(b"audited")).digest
    assert await clients["auditor"].artifacts.read_bytes(digest) == b"audited"
    (listed,) = (await clients["auditor"].artifacts.list_artifacts()).artifacts
    assert listed.digest == digest
    assert (await clients["auditor"].artifacts.find_missing(digests=[digest])).missing == []
    with pytest.raises(PermissionDenied) as denied:
        await clients["ann"].artifacts.collect_garbage(grace_seconds=1)
    assert denied.value.metadata == {"scope": "admin.artifacts"}
    await clients["auditor"].artifacts.collect_garbage(dry_run=True)


async def test_digests_are_capabilities_where_the_setting_says_so(settings, tokens):
    open_hand = settings.model_copy(update={"artifact_digest_is_capability": True})
    async with serving(open_hand, [RegistryRoom()], tokens) as served:
        async with AsyncClient(served.listen, token="ann") as ann:
            digest = (await ann.artifacts.upload(b"handed on")).digest
        async with AsyncClient(served.listen, token="bob") as bob:
            assert await bob.artifacts.read_bytes(digest) == b"handed on"
            assert (await bob.artifacts.list_artifacts()).artifacts == []


async def test_without_tokens_every_artefact_is_there(settings, store):
    """Whatever wrote it, and whenever: before artefacts had holders, too."""
    digest = store.put_bytes(b"old").digest
    async with serving(settings, [RegistryRoom()], None) as served, AsyncClient(served.listen) as client:
        assert await client.artifacts.read_bytes(digest) == b"old"
        (listed,) = (await client.artifacts.list_artifacts()).artifacts
        await client.artifacts.delete_artifact(digest=listed.digest)
        assert (await client.artifacts.find_missing(digests=[digest])).missing == [digest]
