"""A stream may break anywhere; the bytes end up the same."""

import os
import random
import resource
import subprocess
import sys
import uuid
import zlib

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from palimpsest.artifacts import CHUNK_BYTES, UploadSpec
from palimpsest.artifacts.upload_catalogue import UploadCatalogue
from palimpsest.errors import (
    Aborted,
    DataLoss,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ResourceExhausted,
)

DATA = random.Random(1).randbytes(2 * CHUNK_BYTES + 12_345)


@given(st.lists(st.integers(0, len(DATA)), max_size=6), st.booleans())
@hypothesis_settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_cut_at_any_byte(any_store, cuts, knows_digest):
    reference = any_store.put_bytes(DATA).digest
    any_store.delete(reference)
    upload_id = uuid.uuid4().hex
    announced = UploadSpec(digest=reference) if knows_digest else UploadSpec()
    for cut in [*sorted(cuts), len(DATA)]:
        with any_store.uploads.open(upload_id, announced) as upload:
            start = upload.size_bytes
            for offset in range(start, cut, 700_001):
                upload.write(offset, DATA[offset : min(offset + 700_001, cut)])
        assert any_store.uploads.status(upload_id).committed_size == cut
    with any_store.uploads.open(upload_id, announced) as upload:
        assert upload.finish().digest == reference
    status = any_store.uploads.status(upload_id)
    assert status.artifact is not None
    assert (status.artifact.digest, status.committed_size) == (reference, len(DATA))
    assert any_store.read_bytes(reference) == DATA
    any_store.delete(reference)


def test_what_earlier_streams_sent_is_read_back_in_steps(any_store):
    """A server goes on with a large upload in between other calls; however far that came, nothing is lost."""
    upload_id, spec = uuid.uuid4().hex, UploadSpec()
    with any_store.uploads.open(upload_id, spec) as upload:
        upload.write(0, DATA)
    with any_store.uploads.open(upload_id, spec) as upload:
        assert upload.size_bytes == len(DATA)
        assert not upload.read_back(CHUNK_BYTES)
    assert any_store.uploads.status(upload_id).committed_size == len(DATA)
    with any_store.uploads.open(upload_id, spec) as upload:
        steps = 1
        while not upload.read_back(CHUNK_BYTES):
            steps += 1
        assert steps == 3
        upload.write(len(DATA), b"and more")
        more = upload.finish()
    assert any_store.read_bytes(more.digest) == DATA + b"and more"
    any_store.delete(more.digest)


KILLED = """
import os, sys, redis
from pathlib import Path
from palimpsest.artifacts import UploadSpec, ArtifactStore
url, prefix, folder, size = sys.argv[1:]
store = ArtifactStore(Path(folder).as_uri(), redis.Redis.from_url(url), prefix=prefix, local=Path(folder))
upload = store.uploads.open("killed", UploadSpec())
data = os.urandom(1 << 20)
offset = 0
while offset < int(size):
    upload.write(offset, data)
    offset += len(data)
os.kill(os.getpid(), 9)
"""


def test_killed_server_keeps_what_it_acknowledged(make_store, valkey, redis_prefix, tmp_path):
    subprocess.run(
        [sys.executable, "-c", KILLED, valkey.url, redis_prefix, str(tmp_path / "store"), str(20 << 20)],
        check=False,
    )
    store = make_store()
    committed = store.uploads.status("killed").committed_size
    assert 20 << 20 >= committed >= 12 << 20
    with store.uploads.open("killed", UploadSpec()) as upload:
        assert upload.size_bytes == committed
        upload.write(committed, b"end")
        info = upload.finish()
    assert info.size_bytes == committed + 3
    assert len(store.read_bytes(info.digest)) == committed + 3


def test_bytes_past_the_committed_mark_are_dropped(store):
    with store.uploads.open("u", UploadSpec()) as upload:
        upload.write(0, b"abc")
    data = next(store.uploads._folder.rglob("data"))
    with data.open("ab") as file:
        file.write(b"\0\0\0\0")
    with store.uploads.open("u", UploadSpec()) as upload:
        assert upload.size_bytes == 3
        assert upload.finish().size_bytes == 3


def test_one_writer_at_a_time(store):
    with store.uploads.open("u", UploadSpec()) as upload:
        with pytest.raises(Aborted) as caught:
            store.uploads.open("u", UploadSpec())
        assert caught.value.reason == "UPLOAD_BUSY"
        upload.write(0, b"abc")
    with store.uploads.open("u", UploadSpec()) as upload:
        assert upload.size_bytes == 3


def test_callers_do_not_share_upload_ids(store):
    with store.uploads.open("u", UploadSpec(), principal="ann") as upload:
        upload.write(0, b"abc")
    with store.uploads.open("u", UploadSpec(), principal="bob") as upload:
        assert upload.size_bytes == 0
    with pytest.raises(NotFound):
        store.uploads.status("u", principal="eve")


def test_wrong_offset_says_where_to_go_on(store):
    with store.uploads.open("u", UploadSpec()) as upload:
        upload.write(0, b"abc")
        for offset in (0, 2, 4):
            with pytest.raises(OutOfRange) as caught:
                upload.write(offset, b"d")
            assert (caught.value.reason, caught.value.metadata["committed_size"]) == ("UPLOAD_OFFSET", "3")
        upload.write(3, b"d")


def test_checksum(store):
    with store.uploads.open("u", UploadSpec()) as upload:
        upload.write(0, b"abc", zlib.crc32(b"abc"))
        with pytest.raises(DataLoss) as caught:
            upload.write(3, b"def", zlib.crc32(b"deg"))
        assert caught.value.reason == "CHECKSUM_MISMATCH"
        upload.write(3, b"def", zlib.crc32(b"def"))
        assert upload.finish().size_bytes == 6


def test_wrong_digest_starts_again(store):
    digest = store.put_bytes(b"abcd").digest
    store.delete(digest)
    with store.uploads.open("u", UploadSpec(digest=digest)) as upload:
        upload.write(0, b"abcX")
        with pytest.raises(DataLoss) as caught:
            upload.finish()
        assert caught.value.reason == "DIGEST_MISMATCH"
    assert store.uploads.status("u").committed_size == 0
    with store.uploads.open("u", UploadSpec(digest=digest)) as upload:
        upload.write(0, b"abcd")
        assert upload.finish().digest == digest


def test_announced_size(store):
    with store.uploads.open("u", UploadSpec(size_bytes=4)) as upload:
        upload.write(0, b"abc")
        with pytest.raises(OutOfRange):
            upload.finish()
        with pytest.raises(InvalidArgument):
            upload.write(3, b"de")
        upload.write(3, b"d")
        assert upload.finish().size_bytes == 4


def test_announced_otherwise(store):
    with store.uploads.open("u", UploadSpec(size_bytes=4)) as upload:
        upload.write(0, b"a")
    with pytest.raises(InvalidArgument) as caught:
        store.uploads.open("u", UploadSpec(size_bytes=5))
    assert caught.value.reason == "UPLOAD_REUSED"
    with store.uploads.open("u", UploadSpec()) as upload:
        assert upload.size_bytes == 1


def test_held_artifacts_are_not_sent(store):
    info = store.put_bytes(b"abc")
    with store.uploads.open("u", UploadSpec(digest=info.digest)) as upload:
        assert upload.artifact is not None
        assert upload.finish().digest == info.digest
    assert store.uploads.status("u").artifact.digest == info.digest


def test_finished_upload_can_be_finished_again(store):
    for _ in range(2):
        with store.uploads.open("u", UploadSpec()) as upload:
            if upload.artifact is None:
                upload.write(0, b"abc")
            assert upload.finish().size_bytes == 3


def test_finished_but_deleted_since(store):
    with store.uploads.open("u", UploadSpec()) as upload:
        upload.write(0, b"abc")
        store.delete(upload.finish().digest)
    assert store.uploads.status("u").artifact is None
    with store.uploads.open("u", UploadSpec()) as upload:
        assert upload.size_bytes == 0
        upload.write(0, b"abc")
        assert store.read_bytes(upload.finish().digest) == b"abc"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc/passwd", "a/b", "a" * 65, "a\n", "a\0b", "-x"])
def test_upload_ids_are_not_paths(store, name):
    with pytest.raises(InvalidArgument):
        store.uploads.open(name, UploadSpec())
    with pytest.raises(InvalidArgument):
        store.uploads.status(name)


def test_limits(make_store):
    store = make_store(max_bytes=5)
    with pytest.raises(ResourceExhausted):
        store.uploads.open("u", UploadSpec(size_bytes=6))
    with store.uploads.open("v", UploadSpec()) as upload:
        upload.write(0, b"abcde")
        with pytest.raises(ResourceExhausted) as caught:
            upload.write(5, b"f")
        assert caught.value.reason == "ARTIFACT_TOO_LARGE"
        assert upload.finish().size_bytes == 5


def test_full_disk_keeps_what_fitted(store):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with store.uploads.open("u", UploadSpec()) as upload:
        upload.write(0, DATA[:CHUNK_BYTES])
        resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK_BYTES + 1000, before[1]))
        try:
            with pytest.raises(ResourceExhausted) as caught:
                upload.write(CHUNK_BYTES, DATA[CHUNK_BYTES : 2 * CHUNK_BYTES])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert caught.value.reason == "STORE_FULL"
        assert upload.size_bytes == CHUNK_BYTES
        upload.write(CHUNK_BYTES, DATA[CHUNK_BYTES:])
        info = upload.finish()
    assert store.read_bytes(info.digest) == DATA


def test_expiry(store):
    with store.uploads.open("old", UploadSpec()) as upload:
        upload.write(0, b"abc")
    with store.uploads.open("busy", UploadSpec()) as busy:
        busy.write(0, b"abc")
        for file in store.uploads._folder.rglob("*"):
            os.utime(file, (1, 1))
        assert store.uploads.expire(2, dry_run=True) > 0
        assert store.uploads.status("old").committed_size == 3
        store.uploads.expire(2)
        with pytest.raises(NotFound) as caught:
            store.uploads.status("old")
        assert caught.value.reason == "UPLOAD_NOT_FOUND"
        busy.write(3, b"def")
        assert busy.finish().size_bytes == 6


class UploadMachine(RuleBasedStateMachine):
    """An upload against a bytearray, broken and resumed at random."""

    uploads: UploadCatalogue

    @initialize()
    def begin(self) -> None:
        self.id, self.model, self.stream = uuid.uuid4().hex, bytearray(), None

    @precondition(lambda self: self.stream is None)
    @rule()
    def resume(self) -> None:
        self.stream = self.uploads.open(self.id, UploadSpec())
        assert self.stream.size_bytes == len(self.model)

    @precondition(lambda self: self.stream is not None)
    @rule(data=st.binary(max_size=300), repeat=st.sampled_from([1, 3000]))
    def send(self, data: bytes, repeat: int) -> None:
        self.stream.write(len(self.model), data * repeat)
        self.model += data * repeat

    @precondition(lambda self: self.stream is not None)
    @rule(slip=st.integers(1, 10))
    def send_elsewhere(self, slip: int) -> None:
        with pytest.raises(OutOfRange):
            self.stream.write(len(self.model) + slip, b"x")

    @precondition(lambda self: self.stream is not None)
    @rule()
    def break_off(self) -> None:
        self.stream.close()
        self.stream = None

    @invariant()
    def committed_is_never_more_than_sent(self) -> None:
        if self.stream is None and self.model:
            assert self.uploads.status(self.id).committed_size == len(self.model)

    def teardown(self) -> None:
        if self.stream is None:
            self.stream = self.uploads.open(self.id, UploadSpec())
        info = self.stream.finish()
        assert self.uploads.read(info.digest) == bytes(self.model)
        self.stream.close()


def test_upload_machine(store):
    store.uploads.read = store.read_bytes
    machine = type("Machine", (UploadMachine,), {"uploads": store.uploads})
    machine.TestCase.settings = hypothesis_settings(max_examples=15, stateful_step_count=20, deadline=None)
    machine.TestCase().runTest()
