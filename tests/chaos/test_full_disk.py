"""The whole stack on one disk that is really full: right answers, nothing half done, and on again without a restart."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.struct_pb2 import Struct

from palimpsest import Client
from palimpsest.api.artifacts.v1 import artifacts_pb2, artifacts_pb2_grpc
from palimpsest.api.codec.v1 import codec_pb2, codec_pb2_grpc
from palimpsest.api.datastore.v1 import datastore_pb2, datastore_pb2_grpc
from palimpsest.api.decoding.v1 import decoding_pb2, decoding_pb2_grpc
from palimpsest.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from palimpsest.api.models.v1 import models_pb2, models_pb2_grpc
from palimpsest.client.corpora import NewDocument
from palimpsest.embedded.stack import Stack
from palimpsest.embedded.state import running
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import PalimpsestError, ResourceExhausted
from palimpsest.jobs import JobSpec, JobStore
from palimpsest.rpc.health import serving
from palimpsest.settings import Settings
from palimpsest.status import from_rpc_error
from tests.disks import SmallDisk, small_disk
from tests.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
CORPUS = "corpora/c"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 24) as disk:
        yield disk


@pytest.fixture
def stack(disk: SmallDisk) -> Iterator[Stack]:
    settings = Settings(
        state_dir=disk.root / "state",
        redis_url="",
        listen="127.0.0.1:0",
        threads=1,
        drain_seconds=1.0,
        handler_modules="tests.integration.jobs.handlers",
    )
    with Stack(settings) as stack:
        yield stack
        assert stack.failure is None


class Calls:
    """Ten calls that change something, one by one, without the client's patience."""

    def __init__(self, channel: grpc.Channel, digest: str, job: str, model: Path) -> None:
        artifacts = artifacts_pb2_grpc.ArtifactServiceStub(channel)
        corpora = datastore_pb2_grpc.DatastoreServiceStub(channel)
        batch = decoding_pb2.GenerateBatchRequest(model="tiny", input=digest, request_id="batch")
        context = codec_pb2.CreateContextRequest(
            model="tiny", text="a context", context_id="x", coding={"codec": "generic"}
        )
        registration = models_pb2.RegisterModelRequest(model_id="again", source=str(model))
        documents = [
            datastore_pb2.AddDocumentsRequest(open={"corpus": CORPUS}),
            datastore_pb2.AddDocumentsRequest(begin={"document": "b"}),
            datastore_pb2.AddDocumentsRequest(chunk=b"the text of b"),
            datastore_pb2.AddDocumentsRequest(end={}),
        ]
        upload = [
            artifacts_pb2.WriteArtifactRequest(open={"upload_id": "late"}),
            artifacts_pb2.WriteArtifactRequest(chunk={"data": b"late"}),
            artifacts_pb2.WriteArtifactRequest(finish=True),
        ]
        create = datastore_pb2.CreateCorpusRequest(corpus_id="d", model="tiny", encoder="hashed-words")
        delete = datastore_pb2.DeleteDocumentsRequest(corpus=CORPUS, documents=["a"])
        name = f"operations/{job}"
        self._calls: dict[str, Callable[[], Any]] = {
            "an upload": lambda: artifacts.WriteArtifact(iter(upload), timeout=60),
            "a new corpus": lambda: corpora.CreateCorpus(create, timeout=60),
            "documents": lambda: list(corpora.AddDocuments(iter(documents), timeout=60)),
            "a batch": lambda: decoding_pb2_grpc.DecodingServiceStub(channel).GenerateBatch(
                batch, timeout=60
            ),
            "a context": lambda: codec_pb2_grpc.CodecServiceStub(channel).CreateContext(context, timeout=60),
            "a model": lambda: models_pb2_grpc.ModelServiceStub(channel).RegisterModel(
                registration, timeout=60
            ),
            "a build": lambda: corpora.BuildIndex(datastore_pb2.BuildIndexRequest(corpus=CORPUS), timeout=60),
            "a deletion": lambda: corpora.DeleteDocuments(delete, timeout=60),
            "a retry": lambda: jobs_pb2_grpc.JobsServiceStub(channel).RetryJob(
                jobs_pb2.RetryJobRequest(name=name), timeout=60
            ),
            "a cancellation": lambda: operations_pb2_grpc.OperationsStub(channel).CancelOperation(
                operations_pb2.CancelOperationRequest(name=name), timeout=60
            ),
        }
        self.names = list(self._calls)

    def __call__(self, name: str) -> PalimpsestError | None:
        """Make a call; returns the error it ended with."""
        try:
            self._calls[name]()
        except grpc.RpcError as error:
            return from_rpc_error(error)
        return None


def until_refused(attempt: Callable[[], PalimpsestError | None]) -> PalimpsestError:
    """The last pages of files have room for some more lines; use it up."""
    return until(attempt, 60)


def pids(stack: Stack) -> dict[str, int | None]:
    return {child.name: child.pid for child in stack.status()}


def test_the_stack_outlives_a_full_disk(disk: SmallDisk, stack: Stack, tiny_model: Path, tmp_path: Path):
    settings = stack.settings.model_copy(update={"redis_url": ValkeyServer(disk.root / "state/valkey").url})
    store = JobStore(redis.Redis.from_url(settings.redis_url), settings)
    with Client(stack.target) as client, grpc.insecure_channel(stack.target) as channel:
        client.models.register_model(model_id="tiny", source=str(tiny_model)).result(timeout=120)
        client.datastore.create_corpus(corpus_id="c", model="tiny", encoder="hashed-words")
        artifact = client.artifacts.upload(
            b'{"prompt": "a", "max_tokens": 3}\n', media_type="application/jsonl"
        )
        request = Struct()
        request.update({"folder": str(tmp_path)})
        work = store.submit(JobSpec(kind="test.gate", request=request, principal="local")).id
        until(lambda: (tmp_path / work).exists(), 60)
        calls = Calls(channel, artifact.digest, work, tiny_model)
        with client.datastore.add(CORPUS, [NewDocument("a", "the text of a")]) as answers:
            assert [answer.version for answer in answers] == [1]
        assert calls("a new corpus") is None
        before = pids(stack)

        disk.fill()
        until_refused(lambda: calls("a new corpus"))  # which exists, so that it changes nothing
        for name in calls.names:
            error = calls(name)
            assert isinstance(error, ResourceExhausted), (name, error)
            assert error.reason == "DISK_FULL"
            assert "free space" in error.message
        assert client.datastore.stat_document(corpus=CORPUS, document="a").version == 1

        # The job store's own file is on this disk. A job that ends now keeps its end until it can be stored.
        def submitted() -> PalimpsestError | None:
            try:
                store.submit(JobSpec(kind="test.nothing", request=request, queue="nobody-serves-this"))
            except PalimpsestError as error:  # the write that fills the last page is only late
                return error if isinstance(error, ResourceExhausted) else None
            return None

        assert until_refused(submitted).reason == "DISK_FULL"
        (tmp_path / f"{work}.gate").touch()
        # What changes nothing is served as ever.
        assert serving(stack.target)
        assert client.models.get_model(model_id="tiny").model_id == "tiny"
        assert client.artifacts.read_bytes(artifact.digest)
        assert not client.jobs.get(f"operations/{work}").done
        assert [corpus.name for corpus in client.datastore.list_corpora().corpora] == [CORPUS, "corpora/d"]
        assert client.decoding.text(model="tiny", prompt="a", max_tokens=3, stop=["never"])
        assert pids(stack) == before

        disk.empty()
        until(lambda: store.get(work).state == "SUCCEEDED", 60)
        assert store.get(work).attempt == 1
        for name in calls.names:
            error = until(lambda name=name: calls(name) or "done", 30)
            expected = {"a retry": "JOB_NOT_RETRYABLE"}.get(name)
            assert error == "done" or error.reason == expected, (name, error)
        assert pids(stack) == before


def ended(stack: Stack, name: str, old: dict[str, int | None]) -> bool:
    now = pids(stack)[name]
    return now is not None and now != old[name]


def test_children_that_die_on_a_full_disk_come_back(disk: SmallDisk, stack: Stack, tiny_model: Path):
    with Client(stack.target) as client:
        client.models.register_model(model_id="tiny", source=str(tiny_model)).result(timeout=120)
        disk.fill()
        old = pids(stack)
        for name, pid in old.items():
            assert pid is not None
            os.killpg(pid, signal.SIGKILL) if name != "valkey" else os.kill(pid, signal.SIGKILL)
        for name in old:
            until(lambda name=name: ended(stack, name, old), 120)
        until(lambda: serving(stack.target), 120)
        assert stack.failure is None
        assert client.models.get_model(model_id="tiny").model_id == "tiny"
        disk.empty()

        def told() -> bool:
            state = running(stack.settings.state_dir)
            return state is not None and state.processes == pids(stack)

        until(told, 60)
        artifact = client.artifacts.upload(
            b'{"prompt": "a", "max_tokens": 3}\n', media_type="application/jsonl"
        )
        job = client.decoding.generate_batch(model="tiny", input=artifact.digest)
        assert job.result(timeout=240).succeeded == 1
        audit = (stack.settings.state_dir / "audit.jsonl").read_text().splitlines()
        assert all(json.loads(line) for line in audit)
