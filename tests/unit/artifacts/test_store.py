"""What goes in comes out, or an error does."""

import contextlib
import hashlib
import itertools
import os
import random
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from palimpsest.artifacts import CHUNK_BYTES, ArtifactStore
from palimpsest.artifacts.digests import RunningHash
from palimpsest.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ResourceExhausted,
)

ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
ABSENT = "sha256:" + "0" * 64
SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 17]


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def blob_of(store: ArtifactStore, digest: str) -> Path:
    name = digest.removeprefix("sha256:")
    return Path(store._objects.root) / "blobs" / name[:2] / name


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


def test_known_answer(any_store):
    info = any_store.put_bytes(b"abc", "text/plain")
    assert (info.digest, info.size_bytes, info.media_type) == (ABC, 3, "text/plain")
    assert any_store.stat(ABC) == info
    assert any_store.read_bytes(ABC) == b"abc"
    message = info.message(["job/1"])
    assert (message.digest, message.size_bytes, list(message.owners)) == (ABC, 3, ["job/1"])
    assert message.create_time.ToDatetime().timestamp() == pytest.approx(
        info.create_time.replace(tzinfo=None).timestamp(), abs=1e-5
    )


@pytest.mark.parametrize("size", SIZES)
def test_round_trip_at_chunk_edges(any_store, size, tmp_path):
    data = some_bytes(size)
    source = tmp_path / "source"
    source.write_bytes(data)
    info = any_store.put_file(source)
    assert info.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    chunks = list(any_store.chunks(info.digest))
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)
    with any_store.open(info.digest) as file:
        assert file.read() == data


def test_lines_of_a_file(any_store):
    lines = [b"%d %s\n" % (i, b"x" * (i % 300)) for i in range(20_000)]
    info = any_store.put_bytes(b"".join(lines))
    with any_store.open(info.digest) as file:
        assert list(file) == lines


@pytest.mark.parametrize(
    "offset", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5, 3 * CHUNK_BYTES + 17]
)
@pytest.mark.parametrize("limit", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1])
def test_partial_reads(any_store, offset, limit):
    data = some_bytes(3 * CHUNK_BYTES + 17)
    info = any_store.put_bytes(data)
    expected = data[offset : offset + limit] if limit else data[offset:]
    assert b"".join(any_store.chunks(info.digest, offset, limit)) == expected


def test_reading_past_the_end(store):
    info = store.put_bytes(b"abc")
    assert list(store.chunks(info.digest, 3)) == []
    with pytest.raises(OutOfRange) as caught:
        store.chunks(info.digest, 4)
    assert caught.value.metadata["size_bytes"] == "3"


@given(st.lists(st.integers(0, 3 * CHUNK_BYTES), max_size=8))
@hypothesis_settings(deadline=None, max_examples=25)
def test_hash_does_not_depend_on_the_cuts(cuts):
    data = some_bytes(3 * CHUNK_BYTES)
    edges = [0, *sorted(cuts), len(data)]
    running, whole = RunningHash(), RunningHash()
    for start, end in itertools.pairwise(edges):
        running.update(data[start:end])
    whole.update(data)
    assert running.hashes() == whole.hashes()
    assert whole.hashes().chunks == b"".join(
        hashlib.sha256(data[i : i + CHUNK_BYTES]).digest() for i in range(0, len(data), CHUNK_BYTES)
    )


@pytest.mark.parametrize(
    "name",
    ["", "abc", "../../etc/passwd", "sha256:../../etc/passwd", "sha256:" + "A" * 64, "sha256:" + "0" * 63,
     "sha256:" + "0" * 64 + "\n", "sha256:" + "0" * 62 + "/.", "md5:" + "0" * 64],
)  # fmt: skip
def test_names_that_are_not_digests(store, name):
    for ask in (store.stat, store.chunks, store.open, store.delete, store.read_bytes):
        with pytest.raises(InvalidArgument) as caught:
            ask(name)
        assert caught.value.reason == "DIGEST_INVALID"
    with pytest.raises(InvalidArgument):
        store.missing([name])


def test_absent(any_store):
    for ask in (any_store.stat, any_store.chunks, any_store.open, any_store.delete):
        with pytest.raises(NotFound) as caught:
            ask(ABSENT)
        assert caught.value.reason == "ARTIFACT_NOT_FOUND"


def test_missing_keeps_order(any_store):
    held = any_store.put_bytes(b"abc").digest
    others = [f"sha256:{i:064x}" for i in range(30)]
    assert any_store.missing([*others[:15], held, *others[15:]]) == others


def test_uncommitted_writer_leaves_nothing(any_store):
    with any_store.writer() as writer:
        writer.write(b"abc")
    with contextlib.suppress(RuntimeError), any_store.writer() as writer:
        writer.write(b"abc")
        raise RuntimeError
    assert any_store.missing([ABC]) == [ABC]
    assert list(any_store._objects.staging.iterdir()) == []


def test_same_bytes_again_renew(any_store):
    first = any_store.put_bytes(b"abc", "text/plain")
    second = any_store.put_bytes(b"abc")
    assert second.create_time > first.create_time
    assert second.media_type == "text/plain"
    assert len(any_store.list()[0]) == 1


def test_listing_pages(any_store):
    infos = [any_store.put_bytes(b"%d" % i) for i in range(7)]
    seen, token = [], ""
    while True:
        page, token = any_store.list(3, token)
        assert len(page) <= 3
        seen += page
        if not token:
            break
    assert sorted(seen, key=lambda info: info.create_time) == infos
    assert [info.create_time for info in seen] == sorted((i.create_time for i in infos), reverse=True)


@pytest.mark.parametrize("token", ["x", "AAAA", "e30=", "WzFd"])
def test_foreign_page_tokens(store, token):
    with pytest.raises(InvalidArgument) as caught:
        store.list(0, token)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize("position", [0, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 16])
def test_one_flipped_bit_is_never_served(store, position):
    data = some_bytes(3 * CHUNK_BYTES + 17)
    info = store.put_bytes(data)
    flip(blob_of(store, info.digest), position)
    received = bytearray()
    with pytest.raises(DataLoss) as caught:
        received.extend(byte for chunk in store.chunks(info.digest) for byte in chunk)
    assert caught.value.reason == "ARTIFACT_CORRUPT"
    assert len(received) <= 3 * CHUNK_BYTES, "the last chunk is kept back"
    for again in (
        lambda: list(store.chunks(info.digest)),
        lambda: list(store.chunks(info.digest, 2 * CHUNK_BYTES, 5)),
        lambda: store.stat(info.digest),
        lambda: store.open(info.digest),
    ):
        with pytest.raises(DataLoss):
            again()
    assert store.missing([info.digest]) == [info.digest]
    assert store.list() == ([], "")
    store.put_bytes(data)
    assert store.read_bytes(info.digest) == data


@pytest.mark.parametrize("size", [100, 3 * CHUNK_BYTES])
def test_partial_read_refuses_a_damaged_piece(store, size):
    info = store.put_bytes(some_bytes(size))
    flip(blob_of(store, info.digest), size - 10)
    with pytest.raises(DataLoss):
        list(store.chunks(info.digest, size - 20, 5))
    with pytest.raises(DataLoss):
        store.stat(info.digest)


def test_partial_read_beside_the_damage_is_right(store):
    data = some_bytes(3 * CHUNK_BYTES)
    info = store.put_bytes(data)
    flip(blob_of(store, info.digest), 0)
    assert b"".join(store.chunks(info.digest, 2 * CHUNK_BYTES)) == data[2 * CHUNK_BYTES :]


@pytest.mark.parametrize("change", ["cut", "longer", "gone"])
def test_blob_of_another_length(store, change):
    info = store.put_bytes(some_bytes(2 * CHUNK_BYTES))
    blob = blob_of(store, info.digest)
    if change == "gone":
        blob.unlink()
    else:
        os.truncate(blob, CHUNK_BYTES if change == "cut" else 3 * CHUNK_BYTES)
    for _ in range(2):
        with pytest.raises(DataLoss):
            store.read_bytes(info.digest)


def test_lost_records_are_rebuilt_from_good_bytes(store):
    data = some_bytes(2 * CHUNK_BYTES + 1)
    info = store.put_bytes(data, "text/plain")
    root = store._objects.root
    for pieces in (root / "pieces").rglob("*/*"):
        flip(pieces, 0)
    assert b"".join(store.chunks(info.digest, 5, 10)) == data[5:15]
    for sidecar in (root / "meta").rglob("*.json"):
        sidecar.write_bytes(b"{")
    assert store.stat(info.digest).size_bytes == len(data)
    assert b"".join(store.chunks(info.digest, CHUNK_BYTES + 3, 4)) == data[CHUNK_BYTES + 3 : CHUNK_BYTES + 7]


@given(st.data())
@hypothesis_settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_damage_is_noticed(store, data):
    size = data.draw(st.sampled_from([1, 1000, CHUNK_BYTES + 5]))
    content = some_bytes(size, data.draw(st.integers(0, 3)))
    info = store.put_bytes(content)
    flip(blob_of(store, info.digest), data.draw(st.integers(0, size - 1)))
    with pytest.raises(DataLoss):
        store.read_bytes(info.digest)
    store.put_bytes(content)


def test_limit_on_size(make_store):
    store = make_store(max_bytes=10)
    store.put_bytes(b"0123456789")
    with pytest.raises(ResourceExhausted) as caught:
        store.put_bytes(b"0123456789a")
    assert caught.value.reason == "ARTIFACT_TOO_LARGE"


@pytest.fixture
def small_files() -> None:
    """Files of this process may not grow past 1.5 MiB: a full disk without needing one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * CHUNK_BYTES // 2, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_full_store_serves_nothing_half_written(store):
    with pytest.raises(ResourceExhausted) as caught:
        store.put_bytes(some_bytes(2 * CHUNK_BYTES))
    assert caught.value.reason == "STORE_FULL"
    assert store.list() == ([], "")
    assert list(store._objects.staging.iterdir()) == []
    assert store.put_bytes(b"abc").digest == ABC


def test_delete(any_store):
    any_store.put_bytes(b"abc")
    any_store.references.add("job/7", [ABC])
    any_store.references.add("pin/mine", [ABC])
    with pytest.raises(FailedPrecondition) as caught:
        any_store.delete(ABC)
    assert caught.value.reason == "ARTIFACT_IN_USE"
    assert caught.value.metadata["owners"] == "job/7, pin/mine"
    assert any_store.references.remove_owner("job/7") == 1
    any_store.references.remove_owner("pin/mine")
    any_store.delete(ABC)
    with pytest.raises(NotFound):
        any_store.stat(ABC)


def test_two_stores_over_one_folder(make_store: Callable[..., ArtifactStore]):
    writer, reader = make_store(), make_store()
    digest = writer.put_bytes(b"abc").digest
    assert reader.read_bytes(digest) == b"abc"
