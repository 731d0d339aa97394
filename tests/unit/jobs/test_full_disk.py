"""A job store whose append-only file finds no room: told as a full disk, and no end of a job is lost."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from google.protobuf.wrappers_pb2 import StringValue

from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import PalimpsestError, ResourceExhausted
from palimpsest.jobs import JobContext, JobStore, WorkerResources
from palimpsest.jobs.handlers import Handler
from palimpsest.jobs.runner import Runner
from palimpsest.settings import Settings
from tests.disks import SmallDisk, small_disk
from tests.unit.jobs.harness import echo
from tests.waiting import until


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 2) as disk:
        yield disk


@pytest.fixture
def valkey_on_disk(disk: SmallDisk) -> Iterator[ValkeyServer]:
    server = ValkeyServer(disk.root / "valkey").start()
    yield server
    server.stop()


def full(store: JobStore, disk: SmallDisk) -> PalimpsestError:
    """Fill the disk, and write until the job store says so."""
    disk.fill()

    def refused() -> PalimpsestError | None:
        try:
            store.submit(echo("x" * 1000, queue="nobody"))
        except PalimpsestError as error:
            return error if isinstance(error, ResourceExhausted) else None
        return None

    return until(refused)


def test_the_end_of_a_job_waits_for_room(
    disk: SmallDisk, valkey_on_disk: ValkeyServer, redis_prefix: str, tmp_path: Path
):
    settings = Settings(state_dir=tmp_path, redis_url=valkey_on_disk.url, redis_prefix=redis_prefix)
    client = redis.Redis.from_url(valkey_on_disk.url)
    store, errors = JobStore(client, settings), []
    done = threading.Event()

    def work(request: StringValue, job: JobContext) -> StringValue:
        errors.append(full(store, disk))
        done.set()
        return StringValue(value="the work is done")

    job_id = store.submit(echo()).id
    resources = WorkerResources(settings, client)
    runner = Runner(store, resources, lambda _: Handler(work, StringValue, StringValue, 600.0), "here:1:a")
    running = threading.Thread(target=runner.run, args=(job_id,))
    running.start()
    assert done.wait(60)
    assert errors[0].reason == "DISK_FULL"
    assert "free space" in errors[0].message
    assert errors[0].retry_after
    assert store.get(job_id).state == "RUNNING"
    assert running.is_alive()
    disk.empty()
    running.join(60)
    record = store.get(job_id)
    assert (record.state, record.attempt) == ("SUCCEEDED", 1)
    assert record.response_message() == StringValue(value="the work is done")
    assert store.submit(echo("room again")).state == "QUEUED"


def test_a_server_that_dies_on_a_full_disk_comes_back_with_its_jobs(
    disk: SmallDisk, valkey_on_disk: ValkeyServer, redis_prefix: str, tmp_path: Path
):
    settings = Settings(state_dir=tmp_path, redis_url=valkey_on_disk.url, redis_prefix=redis_prefix)
    store = JobStore(redis.Redis.from_url(valkey_on_disk.url), settings)
    job_id = store.submit(echo("kept")).id
    full(store, disk)
    valkey_on_disk.kill()
    valkey_on_disk.start()
    assert store.get(job_id).request_message() == StringValue(value="kept")
    disk.empty()
    until(lambda: store.submit(echo("room again")).state == "QUEUED")
