"""Rooms and their jobs on a disk that is full, with the audit log elsewhere: the right code, nothing half-written."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
from google.protobuf.message import Message

from palimpsest.api.artifacts.v1 import artifacts_pb2, artifacts_pb2_grpc
from palimpsest.api.datastore.v1 import datastore_pb2, datastore_pb2_grpc
from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.api.models.v1 import models_pb2
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import Code, PalimpsestError
from palimpsest.jobs import JobSpec, JobStore, WorkerResources
from palimpsest.jobs.runner import Runner
from palimpsest.models import register
from palimpsest.progress import NullProgress
from palimpsest.rpc.channel import open_aio_channel
from palimpsest.status import from_rpc_error
from services.datastore import DatastoreRoom
from services.registry import RegistryRoom
from services.worker import find_handler
from tests.disks import PAGE, SmallDisk, small_disk
from tests.gguf_files import write_gguf
from tests.rooms import room_settings, serving

CORPUS = "corpora/c"
LINES = 6


@dataclass
class Bench:
    """Rooms behind a channel, and a worker here, with their files on the small disk."""

    disk: SmallDisk
    channel: grpc.aio.Channel
    resources: WorkerResources
    folder: Path

    @property
    def corpora(self) -> Any:
        return datastore_pb2_grpc.DatastoreServiceStub(self.channel)

    @property
    def artifacts(self) -> Any:
        return artifacts_pb2_grpc.ArtifactServiceStub(self.channel)

    def job(self, kind: str, request: Message, inputs: list[str], job_id: str = "") -> tuple[str, Any]:
        """Run a job, or run it again; returns its id and its record."""
        store = JobStore(self.resources.redis, self.resources.settings)
        if job_id:
            store.retry(job_id)
        else:
            job_id = store.submit(JobSpec(kind=kind, request=request, inputs=inputs, principal="local")).id
        Runner(store, self.resources, find_handler, "worker").run(job_id)
        return job_id, store.get(job_id)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 4) as disk:
        yield disk


@pytest.fixture
async def bench(
    disk: SmallDisk, valkey: ValkeyServer, tmp_path: Path, tiny_model: Path
) -> AsyncIterator[Bench]:
    audit = tmp_path / "audit.jsonl"
    settings = room_settings(
        valkey, disk.root / "state", audit_file=audit, checkpoint_seconds=0.0, batch_engine="worker"
    )
    resources = WorkerResources(settings, redis.Redis.from_url(settings.redis_url))
    register("tiny", str(tiny_model), resources.models, settings, NullProgress())
    async with (
        serving(settings, RegistryRoom(), DatastoreRoom()) as server,
        open_aio_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield Bench(disk, channel, resources, tmp_path)


async def create(bench: Bench) -> None:
    request = datastore_pb2.CreateCorpusRequest(corpus_id="c", model="tiny", encoder="hashed-words")
    await bench.corpora.CreateCorpus(request, timeout=60)


async def add(bench: Bench) -> None:
    parts = [
        datastore_pb2.AddDocumentsRequest(open={"corpus": CORPUS}),
        datastore_pb2.AddDocumentsRequest(begin={"document": "a"}),
        datastore_pb2.AddDocumentsRequest(chunk=b"the quick brown fox " * 500),
        datastore_pb2.AddDocumentsRequest(end={}),
    ]
    answers = [answer async for answer in bench.corpora.AddDocuments(iter(parts), timeout=60)]
    assert [answer.version for answer in answers] == [1]


async def delete(bench: Bench) -> None:
    request = datastore_pb2.DeleteDocumentsRequest(corpus=CORPUS, documents=["a"])
    assert len((await bench.corpora.DeleteDocuments(request, timeout=60)).deleted) == 1


async def upload(bench: Bench) -> None:
    parts = [
        artifacts_pb2.WriteArtifactRequest(open={"upload_id": "u"}),
        artifacts_pb2.WriteArtifactRequest(chunk={"data": b"x" * 5 * PAGE}),
        artifacts_pb2.WriteArtifactRequest(finish=True),
    ]
    assert (await bench.artifacts.WriteArtifact(iter(parts), timeout=60)).size_bytes == 5 * PAGE


Call = Callable[[Bench], Any]
CALLS: dict[str, tuple[list[Call], Call, str]] = {
    "a corpus": ([], create, "DISK_FULL"),
    "a document": ([create], add, "DISK_FULL"),
    "a deletion": ([create, add], delete, "DISK_FULL"),
    "an upload": ([], upload, "STORE_FULL"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_that_finds_no_room_says_so_and_changes_nothing(name: str, bench: Bench):
    before, call, reason = CALLS[name]
    for each in before:
        await each(bench)
    bench.disk.fill()
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(bench)
        error = from_rpc_error(caught.value)
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, reason)
        assert "free space" in error.message
        assert error.retry_after
    documents = datastore_pb2.ListDocumentsRequest(corpus=CORPUS)
    if create in before:
        found = (await bench.corpora.ListDocuments(documents, timeout=60)).documents
        assert [each.document for each in found] == ["a"] * (add in before)
    else:
        assert not (await bench.corpora.ListCorpora(datastore_pb2.ListCorporaRequest(), timeout=60)).corpora
    bench.disk.empty()
    await call(bench)
    audit = [json.loads(line) for line in (bench.folder / "audit.jsonl").read_text().splitlines()]
    codes = [line["code"] for line in audit if line["event"] == "ended"]
    assert codes == ["OK"] * len(before) + ["RESOURCE_EXHAUSTED"] * 2 + ["OK"]


async def stored(bench: Bench, data: bytes) -> str:
    return bench.resources.artifacts.put_bytes(data).digest


async def job_of(kind: str, bench: Bench) -> tuple[Message, list[str]]:
    if kind == "datastore.build_index":
        await create(bench)
        await add(bench)
        return datastore_pb2.BuildIndexRequest(corpus=CORPUS), []
    if kind == "datastore.build_ngram_store":
        digest = await stored(bench, b"the quick brown fox jumps over the lazy dog " * 40)
        return datastore_pb2.BuildNgramStoreRequest(store_id="n", model="tiny", text_artifact=digest), [
            digest
        ]
    if kind == "models.register":
        path = write_gguf(bench.folder / "m.gguf")
        return models_pb2.RegisterModelRequest(model_id="converted", source=str(path)), []
    lines = [{"prompt": f"line {n}", "max_tokens": 4} for n in range(LINES)]
    digest = await stored(bench, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    return decoding_pb2.GenerateBatchRequest(model="tiny", input=digest), [digest]


@pytest.mark.parametrize(
    ("kind", "pages", "reason"),
    [
        ("datastore.build_index", 10, "DISK_FULL"),
        ("datastore.build_ngram_store", 3, "DISK_FULL"),
        ("models.register", 3, "STORE_FULL"),
        ("decoding.generate_batch", 0, "STORE_FULL"),
        ("decoding.generate_batch", 7, "STORE_FULL"),  # at a later checkpoint
    ],
)
async def test_a_job_that_finds_no_room_says_so_and_succeeds_when_it_is_tried_again(
    kind: str, pages: int, reason: str, bench: Bench
):
    request, inputs = await job_of(kind, bench)
    bench.disk.fill(pages * PAGE)
    job_id, record = await asyncio.to_thread(bench.job, kind, request, inputs)
    error: PalimpsestError = record.error
    assert (record.state, error.code, error.reason) == ("FAILED", Code.RESOURCE_EXHAUSTED, reason)
    assert record.attempt == 1
    if kind == "decoding.generate_batch":
        lines = json.loads(record.checkpoint or "{}").get("lines", 0)
        assert 0 < lines < LINES if pages else lines == 0
    bench.disk.empty()
    left = [path for path in bench.disk.content() if "partial" in path.name or path.parent.name == "staging"]
    assert left == []
    _, record = await asyncio.to_thread(bench.job, kind, request, inputs, job_id)
    assert record.state == "SUCCEEDED", record.error
    if kind == "decoding.generate_batch":
        output = bench.resources.artifacts.read_bytes(record.response_message().output.digest)
        _, undisturbed = await asyncio.to_thread(bench.job, kind, request, inputs)
        assert undisturbed.response_message().output.digest == record.response_message().output.digest
        assert [json.loads(line)["index"] for line in output.splitlines()] == list(range(LINES))
