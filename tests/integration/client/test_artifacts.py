"""Whole files in and out, over connections that break wherever they like."""

import asyncio
import hashlib
import io
import os
import random

import pytest

from palimpsest.errors import InvalidArgument, NotFound, Reason
from tests.integration.client.proxy import CuttingProxy
from tests.integration.client.twins import Twin

MIB = 1 << 20


def random_bytes(size):
    return random.randbytes(size)  # different in every run: nothing is held already


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 17])
async def test_bytes_come_back(twin, size):
    data = random_bytes(size)
    seen = []
    artifact = await twin.call(
        twin.client.artifacts.upload,
        data,
        media_type="application/x-test",
        progress=lambda *x: seen.append(x),
    )
    assert artifact.digest == digest_of(data)
    assert artifact.size_bytes == size
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)
    assert await twin.call(twin.client.artifacts.read_bytes, artifact.digest) == data


async def test_files_and_paths(twin, tmp_path):
    data = random_bytes(3 * MIB)
    source, destination = tmp_path / "in", tmp_path / "out"
    source.write_bytes(data)
    artifact = await twin.call(twin.client.artifacts.upload, source)
    with source.open("rb") as file:
        file.seek(MIB)
        rest = await twin.call(twin.client.artifacts.upload, file)
    assert rest.digest == digest_of(data[MIB:])
    seen = []
    await twin.call(
        twin.client.artifacts.download, artifact.digest, destination, progress=lambda *x: seen.append(x)
    )
    assert destination.read_bytes() == data
    assert seen[-1] == (len(data), len(data))
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


async def test_what_is_held_is_not_sent_again(twin, kind, stack):
    data = random_bytes(4 * MIB)
    await twin.call(twin.client.artifacts.upload, data, media_type="text/plain")
    # A connection that dies after 64 KiB, however often it is opened, could not carry it.
    async with CuttingProxy(stack.address, [65536] * 100) as proxy:
        narrow = Twin(kind(proxy.target, token=stack.token))
        artifact = await narrow.call(narrow.client.artifacts.upload, data)
        await narrow.close()
    assert artifact.digest == digest_of(data)
    assert artifact.media_type == "text/plain"


@pytest.mark.parametrize("seed", range(3))
async def test_an_upload_goes_on_after_every_cut(kind, stack, seed):
    generator = random.Random(seed)
    data = random_bytes(8 * MIB + 5)
    cuts = [generator.randrange(200, 3 * MIB) for _ in range(6)]
    async with CuttingProxy(stack.address, cuts) as proxy:
        twin = Twin(kind(proxy.target, token=stack.token))
        artifact = await twin.call(twin.client.artifacts.upload, data)
        await twin.close()
        assert proxy.cut >= 2
    assert artifact.digest == digest_of(data)


@pytest.mark.parametrize("seed", range(3))
async def test_a_download_goes_on_after_every_cut(twin, kind, stack, tmp_path, seed):
    generator = random.Random(seed)
    data = random_bytes(8 * MIB + 5)
    artifact = await twin.call(twin.client.artifacts.upload, data)
    cuts = [generator.randrange(200, 3 * MIB) for _ in range(6)]
    async with CuttingProxy(stack.address, cuts) as proxy:
        cut = Twin(kind(proxy.target, token=stack.token))
        await cut.call(cut.client.artifacts.download, artifact.digest, tmp_path / "out")
        await cut.close()
        assert proxy.cut >= 2
    assert (tmp_path / "out").read_bytes() == data


async def test_a_pipe(twin):
    data = random_bytes(2 * MIB + 3)
    read, write = os.pipe()

    def feed():
        with os.fdopen(write, "wb") as out:
            out.write(data)

    feeding = asyncio.create_task(asyncio.to_thread(feed))
    with os.fdopen(read, "rb") as pipe:
        artifact = await twin.call(twin.client.artifacts.upload, pipe)
    await feeding
    assert artifact.digest == digest_of(data)


class Shrinking(io.BytesIO):
    """Loses its end once its digest is known."""

    def seek(self, position, whence=0):
        if position > 0:
            raise OSError("the disk is gone")
        return super().seek(position, whence)


async def test_a_source_that_fails_shows_its_own_error(twin):
    with pytest.raises(OSError, match="the disk is gone"):
        await twin.call(twin.client.artifacts.upload, Shrinking(random_bytes(3 * MIB)))


async def test_nothing_appears_for_what_is_not_there(twin, tmp_path):
    with pytest.raises(NotFound) as missing:
        await twin.call(twin.client.artifacts.download, "sha256:" + "0" * 64, tmp_path / "out")
    assert missing.value.reason == Reason.ARTIFACT_NOT_FOUND
    assert os.listdir(tmp_path) == []


async def test_a_wrong_digest_names_the_field(twin):
    with pytest.raises(InvalidArgument) as wrong:
        await twin.call(twin.client.artifacts.get_artifact, digest="md5:1")
    assert wrong.value.violations[0].field == "digest"


async def test_many_at_once(twin):
    payloads = [random_bytes(200_000) for _ in range(8)]
    artifacts = await asyncio.gather(*(twin.call(twin.client.artifacts.upload, p) for p in payloads))
    assert [a.digest for a in artifacts] == [digest_of(p) for p in payloads]
