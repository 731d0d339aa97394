"""Files that are no store, cut or altered, and stores that are artefacts."""

import os
import pickle
import time

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palimpsest.artifacts import ArtifactStore
from palimpsest.disk import is_full
from palimpsest.errors import DataLoss, NotFound, Reason
from palimpsest.ngrams import NgramStore, StoreCache, build_store, open_store
from palimpsest.ngrams.layout import MAGIC
from palimpsest.ngrams.opening import MEDIA_TYPE
from tests.disks import PAGE, small_disk


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("s") / "whole"
    documents = [np.random.default_rng(n).integers(0, 50, 40) for n in range(3)]
    build_store(documents, path, tokenizer="sha256:t", vocab_size=50)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def refusal(path, data: bytes, verify: bool = True) -> DataLoss | None:
    path.write_bytes(data)
    try:
        NgramStore.open(path, verify=verify)
    except DataLoss as error:
        return error
    return None


def test_a_sound_file_opens_either_way(path, whole):
    assert refusal(path, whole) is refusal(path, whole, verify=False) is None


@pytest.mark.parametrize("data", [pickle.dumps({(1, 2): {3: 4}}), b"PK\3\4" + b"x" * 900, b"{}" * 40])
def test_a_file_of_another_kind_is_refused(path, data):
    for verify in (True, False):
        error = refusal(path, data, verify)
        assert error.reason == Reason.NGRAMS_FORMAT_UNKNOWN
        assert "pickle" in error.message


def test_a_newer_version_says_so(path, whole):
    import hashlib

    size = int.from_bytes(whole[12:16], "little")
    head = MAGIC + (7).to_bytes(4, "little") + whole[12 : 16 + size]
    error = refusal(path, head + hashlib.sha256(head).digest())
    assert (error.reason, error.metadata["version"]) == (Reason.NGRAMS_FORMAT_UNKNOWN, "7")


def test_a_header_that_says_nothing_sensible_is_refused(path):
    import hashlib

    for header in (b"{}", b"no json", b"[1]", b'{"tokenizer":"t","vocab_size":"x","tokens":1,"documents":1}'):
        head = MAGIC + (1).to_bytes(4, "little") + len(header).to_bytes(4, "little") + header
        assert refusal(path, head + hashlib.sha256(head).digest()).reason == Reason.NGRAMS_DAMAGED


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_file_is_refused_at_once(path, whole, data):
    at = data.draw(st.integers(0, len(whole) - 1))
    for verify in (True, False):
        assert refusal(path, whole[:at], verify).reason == Reason.NGRAMS_DAMAGED
    assert refusal(path, whole + b"more").reason == Reason.NGRAMS_DAMAGED


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_altered_byte_anywhere_is_found(path, whole, data):
    at, change = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    altered = bytearray(whole)
    altered[at] ^= change
    error = refusal(path, bytes(altered))
    assert error is not None
    # Without the checksum a look-up may be wrong, but never leads outside of the file.
    if refusal(path, bytes(altered), verify=False) is None:
        store = NgramStore.open(path, verify=False)
        for token in range(50):
            store.continuations([token], 5)
            store.probabilities(np.full((1, 5), token), np.arange(50), [1.0] * 5)


def test_the_digest_is_that_of_the_contents(tmp_path, path, whole):
    path.write_bytes(whole)
    store = NgramStore.open(path)
    assert bytes.fromhex(store.digest.removeprefix("sha256:")) == whole[-32:]
    assert store.size_bytes == len(whole)
    with pytest.raises(DataLoss):
        NgramStore.open(path, digest="sha256:" + "0" * 64)


@pytest.fixture
def disk(settings):
    return ArtifactStore.from_settings(settings, redis.Redis.from_url(settings.redis_url))


@pytest.fixture
def remote(settings, tmp_path):
    """Artefacts that are no files of this machine."""
    client = redis.Redis.from_url(settings.redis_url)
    return ArtifactStore(
        f"memory://{settings.redis_prefix}", client, prefix=settings.redis_prefix, local=tmp_path
    )


def test_an_artefact_on_this_disk_is_mapped_where_it_is(disk, tmp_path, whole):
    info = disk.put_bytes(whole, MEDIA_TYPE)
    store = open_store(disk, info.digest, tmp_path / "copies")
    assert store.path == disk.local_file(info.digest)
    assert store.tokens == 120
    assert not (tmp_path / "copies").exists()
    disk.delete(info.digest)
    assert store.counts([], np.arange(50))[0].sum() == 120  # whoever has it open keeps it
    with pytest.raises(NotFound):
        open_store(disk, info.digest, tmp_path / "copies")


def test_a_rotten_artefact_is_set_aside(disk, tmp_path, whole):
    info = disk.put_bytes(whole, MEDIA_TYPE)
    blob = disk.local_file(info.digest)
    altered = bytearray(whole)
    altered[-100] ^= 1
    blob.write_bytes(altered)
    with pytest.raises(DataLoss) as refused:
        open_store(disk, info.digest, tmp_path)
    assert refused.value.reason == Reason.ARTIFACT_CORRUPT
    assert disk.find(info.digest) is None


def test_an_artefact_that_is_no_store_is_refused(disk, remote, tmp_path):
    for artifacts in (disk, remote):
        info = artifacts.put_bytes(pickle.dumps({}))
        with pytest.raises(DataLoss) as refused:
            open_store(artifacts, info.digest, tmp_path)
        assert refused.value.reason == Reason.NGRAMS_FORMAT_UNKNOWN
        assert artifacts.find(info.digest) is not None


def test_a_distant_artefact_is_copied_once_and_checked(remote, tmp_path, whole):
    info = remote.put_bytes(whole, MEDIA_TYPE)
    folder = tmp_path / "copies"
    store = open_store(remote, info.digest, folder)
    assert store.path.parent == folder
    before = store.path.stat().st_ino
    assert open_store(remote, info.digest, folder).path.stat().st_ino == before
    store.path.write_bytes(whole[:-1])
    again = open_store(remote, info.digest, folder)
    assert again.path.read_bytes() == whole
    assert [p.name for p in folder.iterdir()] == [again.path.name]


def test_copies_make_room_for_each_other(remote, tmp_path):
    folder, digests = tmp_path / "copies", []
    for n in range(4):
        build_store([[n, 1, 2]], tmp_path / "s", tokenizer="t", vocab_size=9)
        digests.append(remote.put_file(tmp_path / "s", MEDIA_TYPE).digest)
    size = (tmp_path / "s").stat().st_size
    opened = []
    for age, digest in enumerate(digests[:3]):
        opened.append(open_store(remote, digest, folder, cache_bytes=3 * size))
        os.utime(opened[-1].path, (age, age))
    open_store(remote, digests[0], folder, cache_bytes=3 * size)  # used: not the oldest any more
    leftover = folder / ".crashed"
    leftover.write_bytes(b"x")
    os.utime(leftover, (0, 0))
    open_store(remote, digests[3], folder, cache_bytes=3 * size)
    kept = {f"sha256:{p.stem}" for p in folder.iterdir()}
    assert kept == {digests[0], digests[2], digests[3]}
    assert opened[1].counts([1], np.array([1, 2]))[1] == 2  # the copy is gone, the mapping is not
    assert time.time() - opened[0].path.stat().st_mtime < 600


def test_a_shelf_keeps_what_it_opened(disk, tmp_path, whole):
    info = disk.put_bytes(whole, MEDIA_TYPE)
    shelf = StoreCache(disk, tmp_path)
    assert shelf.get(info.digest) is shelf.get(info.digest)


def test_a_store_is_built_whole_or_not_at_all(tmp_path):
    """On a disk with one more page each time, for windows that are sorted in parts."""
    documents = [np.random.default_rng(n).integers(0, 50, 1500) for n in range(4)]
    build_store(documents, tmp_path / "plain", tokenizer="sha256:t", vocab_size=50, bucket=1000)
    refused = 0
    with small_disk(tmp_path / "disk", 1) as disk:
        for pages in range(0, 200, 3):
            disk.fill(pages * PAGE)
            try:
                build_store(documents, disk.root / "s", tokenizer="sha256:t", vocab_size=50, bucket=1000)
                break
            except OSError as error:
                refused += is_full(error)
            finally:
                disk.empty()
            assert disk.content() == set()
        assert refused == pages // 3 > 10
        assert (disk.root / "s").read_bytes() == (tmp_path / "plain").read_bytes()
