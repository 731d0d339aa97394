"""ArtifactService over a real socket."""

import asyncio
import random
import uuid
import zlib
from pathlib import Path

import pytest

from palimpsest.api.artifacts.v1 import artifacts_pb2 as pb
from palimpsest.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PalimpsestError,
    ResourceExhausted,
)
from tests.integration.registry.conftest import typed
from tests.waiting import until_async

CHUNK = 1 << 20
DATA = random.Random(5).randbytes(3 * CHUNK + 333)


def opening(upload_id, **fields):
    return pb.WriteArtifactRequest(open=pb.WriteArtifactRequest.Open(upload_id=upload_id, **fields))


def chunk(data, offset, **fields):
    return pb.WriteArtifactRequest(chunk=pb.WriteArtifactRequest.Chunk(offset=offset, data=data, **fields))


FINISH = pb.WriteArtifactRequest(finish=True)


def messages(data, upload_id, start=0, finish=True, **fields):
    yield opening(upload_id, **fields)
    for offset in range(start, len(data), CHUNK):
        piece = data[offset : offset + CHUNK]
        yield chunk(piece, offset, crc32=zlib.crc32(piece))
    if finish:
        yield FINISH


async def write(registry, parts):
    with typed():
        return await registry.artifacts.WriteArtifact(iter(parts), timeout=60)


async def read(registry, digest, offset=0, limit=0):
    received = bytearray()
    with typed():
        request = pb.ReadArtifactRequest(digest=digest, offset=offset, limit=limit)
        async for part in registry.artifacts.ReadArtifact(request, timeout=60):
            assert part.offset == offset + len(received)
            assert len(part.data) <= CHUNK
            received += part.data
    return bytes(received)


def fresh():
    return uuid.uuid4().hex


async def test_there_and_back(registry):
    artifact = await write(registry, messages(DATA, fresh(), media_type="application/x-test"))
    assert (artifact.size_bytes, artifact.media_type) == (len(DATA), "application/x-test")
    assert await read(registry, artifact.digest) == DATA
    assert await read(registry, artifact.digest, CHUNK + 5, 2 * CHUNK) == DATA[CHUNK + 5 : 3 * CHUNK + 5]
    with typed():
        found = await registry.artifacts.GetArtifact(
            pb.GetArtifactRequest(digest=artifact.digest), timeout=10
        )
    assert found == artifact
    absent = "sha256:" + "1" * 64
    answer = await registry.artifacts.FindMissing(
        pb.FindMissingRequest(digests=[absent, artifact.digest]), timeout=10
    )
    assert list(answer.missing) == [absent]


async def test_a_broken_stream_is_resumed(registry):
    upload_id, rng = fresh(), random.Random(2)
    data = rng.randbytes(6 * CHUNK)
    breaks = start = 0
    while breaks < 4 or not start:  # what was sent may not have been read yet by a busy server
        breaks += 1
        sent = asyncio.Event()

        async def part(start=start, sent=sent):
            yield opening(upload_id)
            for offset in range(start, len(data), CHUNK // 3):
                yield chunk(data[offset : offset + CHUNK // 3], offset)
                if offset > start + CHUNK:
                    sent.set()
                    await asyncio.Event().wait()

        call = registry.artifacts.WriteArtifact(part())
        await sent.wait()
        call.cancel()
        await free(registry, upload_id)
        start = max(await server_side_size(registry, upload_id), 0)
    artifact = await write(registry, messages(data, upload_id, start))
    assert await read(registry, artifact.digest) == data
    with typed():
        status = await registry.artifacts.QueryWriteStatus(
            pb.QueryWriteStatusRequest(upload_id=upload_id), timeout=10
        )
    assert status.complete
    assert status.artifact == artifact


async def free(registry, upload_id):
    """Wait until the server has let go of a broken stream: until then others are told it is busy."""

    async def probe():
        try:
            await write(registry, [opening(upload_id)])
        except PalimpsestError as error:
            return error.reason == "UPLOAD_ORDER"

    await until_async(probe)


async def server_side_size(registry, upload_id):
    try:
        with typed():
            status = await registry.artifacts.QueryWriteStatus(
                pb.QueryWriteStatusRequest(upload_id=upload_id), timeout=10
            )
    except NotFound:
        return -1
    return status.committed_size


async def test_empty_artifact(registry):
    artifact = await write(registry, [opening(fresh()), FINISH])
    assert artifact.size_bytes == 0
    assert await read(registry, artifact.digest) == b""


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [FINISH],
        [chunk(b"x", 0)],
        [opening("u1"), opening("u1")],
        [opening("u2"), chunk(b"x", 0)],
        [opening("u3"), pb.WriteArtifactRequest()],
        [opening("u4"), pb.WriteArtifactRequest(finish=False)],
    ],
)
async def test_out_of_order(registry, parts):
    with pytest.raises(InvalidArgument) as caught:
        await write(registry, parts)
    assert caught.value.reason == "UPLOAD_ORDER"


@pytest.mark.parametrize("upload_id", ["", "../x", "a/b", ".hidden", "x" * 65])
async def test_upload_ids_are_not_paths(registry, upload_id):
    with pytest.raises(InvalidArgument):
        await write(registry, [opening(upload_id), FINISH])


@pytest.mark.parametrize("digest", ["", "abc", "sha256:../../etc/passwd", "sha256:" + "G" * 64])
async def test_digests_are_not_paths(registry, digest):
    with pytest.raises(InvalidArgument):
        await read(registry, digest)


async def test_wrong_offsets_checksums_and_digests(registry):
    upload_id = fresh()
    with pytest.raises(OutOfRange) as caught:
        await write(registry, [opening(upload_id), chunk(b"abc", 0), chunk(b"d", 7)])
    assert caught.value.metadata["committed_size"] == "3"
    with pytest.raises(DataLoss) as damaged:
        await write(registry, [opening(upload_id), chunk(b"def", 3, crc32=1)])
    assert damaged.value.reason == "CHECKSUM_MISMATCH"
    assert (await write(registry, [opening(upload_id), chunk(b"def", 3), FINISH])).size_bytes == 6
    with pytest.raises(DataLoss) as other:
        await write(registry, [opening(fresh(), digest="sha256:" + "2" * 64), chunk(b"abc", 0), FINISH])
    assert other.value.reason == "DIGEST_MISMATCH"


async def test_held_artifacts_are_answered_at_once(registry):
    artifact = await write(registry, messages(b"held", fresh()))
    again = await write(registry, [opening(fresh(), digest=artifact.digest)])
    assert again.digest == artifact.digest


async def test_too_large(registry):
    with pytest.raises(ResourceExhausted) as caught:
        await write(registry, [opening(fresh(), size_bytes=65 << 20)])
    assert caught.value.reason == "ARTIFACT_TOO_LARGE"


async def test_damage_on_the_disk(registry, registry_settings):
    data = random.Random(9).randbytes(2 * CHUNK + 1)
    artifact = await write(registry, messages(data, fresh()))
    name = artifact.digest.removeprefix("sha256:")
    blob = Path(registry_settings.state_dir) / "artifacts" / "blobs" / name[:2] / name
    with blob.open("r+b") as file:
        file.seek(CHUNK + 7)
        file.write(bytes([data[CHUNK + 7] ^ 1]))
    for offset in (0, CHUNK + 1, 0):
        with pytest.raises(DataLoss) as caught:
            await read(registry, artifact.digest, offset)
        assert caught.value.reason == "ARTIFACT_CORRUPT"
    await write(registry, messages(data, fresh(), digest=artifact.digest))
    assert await read(registry, artifact.digest) == data


async def test_reader_that_leaves(registry):
    artifact = await write(registry, messages(DATA, fresh()))
    call = registry.artifacts.ReadArtifact(pb.ReadArtifactRequest(digest=artifact.digest))
    assert (await call.read()).offset == 0
    call.cancel()
    assert await read(registry, artifact.digest) == DATA


async def test_listing(registry):
    digests = [(await write(registry, messages(b"listed %d" % i, fresh()))).digest for i in range(3)]
    seen, token = [], ""
    while True:
        with typed():
            page = await registry.artifacts.ListArtifacts(
                pb.ListArtifactsRequest(page_size=2, page_token=token), timeout=10
            )
        seen += [artifact.digest for artifact in page.artifacts]
        token = page.next_page_token
        if not token:
            break
    assert seen[:3] == digests[::-1]
    with pytest.raises(InvalidArgument), typed():
        await registry.artifacts.ListArtifacts(pb.ListArtifactsRequest(page_token="nonsense"), timeout=10)


async def test_deleting(registry, server):
    artifact = await write(registry, messages(b"to be deleted", fresh()))
    references = server.resources.artifacts.references
    await asyncio.to_thread(references.add, "pin/mine", [artifact.digest])
    with pytest.raises(FailedPrecondition) as caught, typed():
        await registry.artifacts.DeleteArtifact(pb.DeleteArtifactRequest(digest=artifact.digest), timeout=10)
    assert caught.value.metadata["owners"] == "pin/mine"
    found = await registry.artifacts.GetArtifact(pb.GetArtifactRequest(digest=artifact.digest), timeout=10)
    assert list(found.owners) == ["pin/mine"]
    await asyncio.to_thread(references.remove_owner, "pin/mine")
    await registry.artifacts.DeleteArtifact(pb.DeleteArtifactRequest(digest=artifact.digest), timeout=10)
    with pytest.raises(NotFound):
        await read(registry, artifact.digest)


async def test_collecting(registry, server, ended):
    store = server.resources.artifacts
    pinned = (await write(registry, messages(b"pinned", fresh()))).digest
    await asyncio.to_thread(store.references.add, "pin/collecting", [pinned])
    gone = (await write(registry, messages(b"unpinned", fresh()))).digest

    async def old_enough():
        return (await ended(await collect(registry, 1, dry_run=True))).deleted

    await until_async(old_enough)
    result = await ended(await collect(registry, 1))
    assert result.deleted > 0
    assert result.freed_bytes > 0
    assert await asyncio.to_thread(store.missing, [pinned]) == []

    async def collected():
        await ended(await collect(registry, 1))
        return await asyncio.to_thread(store.missing, [gone])

    await until_async(collected)
    kept = await ended(await collect(registry, 0))
    assert kept.deleted == 0, "0 is the server's own grace time, a day"
    assert kept.kept >= 1


async def collect(registry, grace_seconds, dry_run=False):
    with typed():
        return await registry.artifacts.CollectGarbage(
            pb.CollectGarbageRequest(grace_seconds=grace_seconds, dry_run=dry_run), timeout=10
        )


async def test_many_at_once(registry):
    contents = [random.Random(i).randbytes(CHUNK + i) for i in range(12)]
    artifacts = await asyncio.gather(*(write(registry, messages(data, fresh())) for data in contents))
    assert await asyncio.gather(*(read(registry, artifact.digest) for artifact in artifacts)) == contents


async def test_one_writer_at_a_time(registry):
    upload_id, release = fresh(), asyncio.Event()

    async def slow():
        yield opening(upload_id)
        yield chunk(b"abc", 0)
        await release.wait()
        yield FINISH

    first = registry.artifacts.WriteArtifact(slow(), timeout=60)

    async def begun():
        return await server_side_size(registry, upload_id) >= 0

    await until_async(begun)
    with pytest.raises(PalimpsestError) as caught:
        await write(registry, [opening(upload_id), FINISH])
    assert caught.value.reason == "UPLOAD_BUSY"
    release.set()
    assert (await first).size_bytes == 3
