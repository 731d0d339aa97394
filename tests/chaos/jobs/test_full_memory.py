"""A job store at its memory limit takes no new work, and lets go of the work it has: real Valkey, real workers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.message import Message

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.api.datastore.v1 import datastore_pb2
from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.api.models.v1 import models_pb2
from palimpsest.artifacts import ArtifactStore
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import Reason, ResourceExhausted
from palimpsest.jobs import JobSpec, JobStore, WorkerResources
from palimpsest.jobs.handlers import Handler
from palimpsest.jobs.runner import Runner
from palimpsest.models import register
from palimpsest.progress import NullProgress
from palimpsest.redis import WorkerRedis
from palimpsest.settings import Settings
from services.worker import find_handler
from tests.chaos.jobs.test_jobs import TRIALS, open_gate, started
from tests.integration.jobs.harness import SHORT, Bench
from tests.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.parametrize("trial", range(TRIALS))]


def test_what_runs_ends_and_what_is_new_waits_outside(bench: Bench, trial: int):
    artifacts = ArtifactStore.from_settings(bench.settings, bench.redis)
    spare = artifacts.put_bytes(b"nobody needs this")
    worker = bench.worker(PALIMPSEST_WORKER_CONCURRENCY="2")
    (name,) = bench.store.workers()
    ended = bench.submit("echo", text="early")
    bench.until_state(ended, "SUCCEEDED")
    work, doomed = bench.submit("deliver"), bench.submit("gate")
    for job_id in (work, doomed):
        started(bench, job_id, 1)
    queued = bench.submit("echo", text="late", queue="nobody-serves-this")
    key = f"{bench.settings.redis_prefix}job:{work}"
    leased = int(bench.redis.hget(key, "lease_ms") or 0)  # type: ignore[arg-type]
    beaten = bench.redis.pexpiretime(f"{bench.settings.redis_prefix}worker:{name}")

    bench.redis.config_set("maxmemory", "1mb")
    for refused in (
        lambda: bench.submit("echo", text="new"),
        lambda: artifacts.put_bytes(b"new"),
        lambda: artifacts.references.add("pin/mine", [spare.digest]),
    ):
        with pytest.raises(ResourceExhausted) as caught:
            refused()
        assert caught.value.reason == Reason.JOB_STORE_FULL
        assert "maxmemory" in caught.value.message
    # The lease and the worker's own note are renewed, for longer than either lasts.
    until(lambda: int(bench.redis.hget(key, "lease_ms") or 0) > leased + 2000 * bench.settings.lease_seconds)  # type: ignore[arg-type]
    until(lambda: bench.redis.pexpiretime(f"{bench.settings.redis_prefix}worker:{name}") > beaten, 40)  # type: ignore[operator]
    assert bench.store.cancel(queued).state == "CANCELLED"
    bench.store.cancel(doomed)
    bench.until_state(doomed, "CANCELLED")
    bench.store.delete(ended)
    artifacts.delete(spare.digest)
    open_gate(bench, work)
    bench.until_state(work, "SUCCEEDED")
    record = bench.store.get(work)
    digest = record.response_message()["digest"]  # type: ignore[index]
    assert (record.attempt, bench.runs(work)) == (1, ["started"])
    assert artifacts.read_bytes(digest) == b"the work of " + work.encode()
    assert artifacts.references.owners(digest) == [f"job/{work}"]

    bench.redis.config_set("maxmemory", "0")
    after = bench.submit("echo", text="room again")
    bench.until_state(after, "SUCCEEDED")
    assert worker.process.poll() is None
    assert bench.store.workers() == [name]


@pytest.fixture
def resources(server: ValkeyServer, redis_prefix: str, tmp_path: Path) -> Iterator[WorkerResources]:
    """What a worker has, to run jobs here and now."""
    settings = Settings(
        state_dir=tmp_path / "state", redis_url=server.url, redis_prefix=redis_prefix, threads=1, device="cpu"
    )
    client = WorkerRedis.from_url(server.url)
    yield WorkerResources(
        settings.model_copy(update={**SHORT, "checkpoint_seconds": 0.0, "batch_engine": "worker"}), client
    )
    client.close()


def request_of(kind: str, resources: WorkerResources, model: Path) -> tuple[Message, list[str]]:
    """A small job of a kind, and its inputs."""
    if kind == "models.register":
        return models_pb2.RegisterModelRequest(model_id="tiny", source=str(model)), []
    register("tiny", str(model), resources.models, resources.settings, NullProgress())
    if kind == "codec.create_context":
        tokens = codec_pb2.Tokens(ids=range(3, 70))
        return codec_pb2.CreateContextRequest(model="tiny", tokens=tokens, coding={"codec": "generic"}), []
    text = b"".join(json.dumps({"prompt": f"line {n}", "max_tokens": 5}).encode() + b"\n" for n in range(3))
    if kind == "datastore.build_ngram_store":
        text = b"the quick brown fox jumps over the lazy dog"
    digest = resources.artifacts.put_bytes(text).digest
    if kind == "datastore.build_ngram_store":
        return datastore_pb2.BuildNgramStoreRequest(store_id="n", model="tiny", text_artifact=digest), [
            digest
        ]
    return decoding_pb2.GenerateBatchRequest(model="tiny", input=digest), [digest]


@pytest.mark.parametrize(
    "kind",
    ["models.register", "decoding.generate_batch", "codec.create_context", "datastore.build_ngram_store"],
)
def test_every_kind_of_job_finishes_with_its_result(
    kind: str, resources: WorkerResources, tiny_model: Path, trial: int
):
    store = JobStore(resources.redis, resources.settings)
    request, inputs = request_of(kind, resources, tiny_model)
    found = find_handler(kind)
    assert found is not None

    def full_from_the_start(request: Message, job: object) -> Message:
        resources.redis.config_set("maxmemory", "1mb")
        with pytest.raises(ResourceExhausted):
            store.submit(JobSpec(kind="test.none", request=request))
        return found.run(request, job)

    find: Callable[[str], Handler] = lambda _: found._replace(run=full_from_the_start)  # noqa: E731
    job_id = store.submit(JobSpec(kind=kind, request=request, inputs=inputs, principal="local")).id
    Runner(store, resources, find, "worker").run(job_id)
    record = store.get(job_id)
    assert (record.state, record.error) == ("SUCCEEDED", None)
    owned = {digest.decode() for digest in resources.redis.smembers(f"{store.prefix}owned:job/{job_id}")}
    assert owned >= set(inputs)
    for digest in owned:
        assert resources.artifacts.read_bytes(digest)
    resources.redis.config_set("maxmemory", "0")
