"""An artefact store whose disk is full: refused with a reason, nothing half-written, and good again with room.

The disk is a small file system in memory, filled to the last page.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from palimpsest.api.artifacts.v1 import artifacts_pb2 as pb
from palimpsest.api.artifacts.v1.artifacts_pb2_grpc import ArtifactServiceStub
from palimpsest.artifacts import CHUNK_BYTES, ArtifactStore
from palimpsest.embedded.environment import settings_environment
from palimpsest.embedded.probes import free_address
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import Code, Reason, ResourceExhausted
from palimpsest.rpc.health import serving
from palimpsest.settings import Settings
from palimpsest.status import from_rpc_error
from tests.chaos.jobs.test_jobs import TRIALS
from tests.integration.jobs.harness import ROOT, SHORT, Bench
from tests.waiting import until

PAGE = os.sysconf("SC_PAGE_SIZE")
SIZE = 40 * PAGE
UPLOAD = random.Random(3).randbytes(CHUNK_BYTES + SIZE)
pytestmark = [pytest.mark.chaos, pytest.mark.parametrize("trial", range(TRIALS))]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root, with the right to mount, can make a small disk to fill")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def bench(disk: Path, server: ValkeyServer, redis_prefix: str, tmp_path: Path) -> Iterator[Bench]:
    settings = Settings(
        state_dir=tmp_path / "state",
        redis_url=server.url,
        redis_prefix=redis_prefix,
        artifact_url=(disk / "artifacts").as_uri(),
    )
    bench = Bench(settings.model_copy(update=SHORT), tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def fill(disk: Path) -> Callable[[int], Path]:
    """Fill the disk but for so many bytes; return the file that does."""

    def fill(left: int) -> Path:
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            free = os.statvfs(disk)
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - left)
        free = os.statvfs(disk)
        assert free.f_bavail * free.f_frsize == left
        return ballast

    return fill


def content(disk: Path) -> set[Path]:
    return {path for path in disk.rglob("*") if path.is_file() and path.name != "ballast"}


@pytest.mark.parametrize("left", [0, SIZE // 2, SIZE], ids=["nothing", "half", "all but the sidecar"])
def test_a_job_fails_with_the_reason_and_succeeds_again_with_room(
    bench: Bench, disk: Path, fill: Callable[[int], Path], left: int, trial: int
):
    store = ArtifactStore.from_settings(bench.settings, bench.redis)
    kept = store.put_bytes(b"stored before")
    bench.worker()
    before = content(disk)
    ballast = fill(left)
    job_id = bench.submit("store", size=SIZE)
    bench.until_state(job_id, "FAILED")
    record = bench.store.get(job_id)
    assert record.error is not None
    assert (record.error.code, record.error.reason) == (Code.RESOURCE_EXHAUSTED, Reason.STORE_FULL)
    assert "free space" in record.error.message
    assert (record.attempt, bench.runs(job_id)) == (1, ["started"])
    # What was there is there, and nothing else: no staged bytes, no blob without its sidecar.
    assert content(disk) == before
    assert [info.digest for info in store.list()[0]] == [kept.digest]
    assert store.read_bytes(kept.digest) == b"stored before"
    with pytest.raises(ResourceExhausted) as caught:
        store.put_bytes(b"x" * (left + 1))
    assert caught.value.reason == Reason.STORE_FULL
    ballast.unlink()
    bench.store.retry(job_id)
    bench.until_state(job_id, "SUCCEEDED")
    digest = bench.store.get(job_id).response_message()["digest"]  # type: ignore[index]
    assert len(store.read_bytes(digest)) == SIZE
    assert {info.digest for info in store.list()[0]} == {kept.digest, digest}
    assert store.references.owners(digest) == [f"job/{job_id}"]


@pytest.fixture
def registry(bench: Bench) -> Iterator[ArtifactServiceStub]:
    """The registry in a process of its own, without the client's patience in between."""
    address = free_address("127.0.0.1:0", exact=False)
    environment = {**os.environ, **settings_environment(bench.settings), "PALIMPSEST_LISTEN": address}
    process = subprocess.Popen([sys.executable, "-m", "services", "registry"], cwd=ROOT, env=environment)
    try:
        until(lambda: serving(address))
        with grpc.insecure_channel(address) as channel:
            yield ArtifactServiceStub(channel)
    finally:
        process.kill()
        process.wait()


def parts(start: int) -> Iterator[pb.WriteArtifactRequest]:
    yield pb.WriteArtifactRequest(open=pb.WriteArtifactRequest.Open(upload_id="full"))
    for offset in range(start, len(UPLOAD), CHUNK_BYTES):
        data = UPLOAD[offset : offset + CHUNK_BYTES]
        yield pb.WriteArtifactRequest(chunk=pb.WriteArtifactRequest.Chunk(offset=offset, data=data))
    yield pb.WriteArtifactRequest(finish=True)


@pytest.mark.parametrize(
    ("left", "fits"),
    [(0, None), (CHUNK_BYTES + PAGE, 0), (CHUNK_BYTES + 3 * PAGE, CHUNK_BYTES)],
    ids=["nothing", "no note of the chunk that fits", "one chunk"],
)
def test_an_upload_is_refused_with_the_reason_and_resumed_with_room(
    registry: ArtifactServiceStub, fill: Callable[[int], Path], left: int, fits: int | None, trial: int
):
    ballast = fill(left)
    for attempt in range(2):
        with pytest.raises(grpc.RpcError) as caught:
            registry.WriteArtifact(parts(fits if fits and attempt else 0), timeout=20)
        error = from_rpc_error(caught.value)
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, Reason.STORE_FULL)
        assert error.retry_after
    assert list(registry.ListArtifacts(pb.ListArtifactsRequest(), timeout=20).artifacts) == []
    ballast.unlink()
    start = 0
    if fits is not None:
        status = registry.QueryWriteStatus(pb.QueryWriteStatusRequest(upload_id="full"), timeout=20)
        assert (status.committed_size, status.complete) == (fits, False)
        start = fits
    artifact = registry.WriteArtifact(parts(start), timeout=20)
    answers = registry.ReadArtifact(pb.ReadArtifactRequest(digest=artifact.digest), timeout=20)
    assert b"".join(answer.data for answer in answers) == UPLOAD
