"""Sources and destinations of transfers."""

import hashlib
import io
import os
import threading
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.client import transfer


@given(data=st.binary(max_size=300), start=st.integers(0, 50), size=st.integers(1, 64))
def test_chunks_cover_the_file_from_where_it_stands(data, start, size):
    start = min(start, len(data))
    file = io.BytesIO(data)
    file.seek(start)
    chunks = transfer.Chunks(file)
    assert chunks.size == len(data) - start
    assert chunks.digest == f"sha256:{hashlib.sha256(data[start:]).hexdigest()}"
    original, transfer.CHUNK_BYTES = transfer.CHUNK_BYTES, size
    try:
        joined, offset = b"", 0
        while (part := chunks.at(offset)) is not None:
            assert part.chunk.offset == offset
            assert part.chunk.crc32 == zlib.crc32(part.chunk.data)
            joined += part.chunk.data
            offset += len(part.chunk.data)
    finally:
        transfer.CHUNK_BYTES = original
    assert joined == data[start:]


def test_a_pipe_is_spooled():
    read, write = os.pipe()
    payload = os.urandom(200_000)

    def feed():
        with os.fdopen(write, "wb") as out:
            out.write(payload)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with os.fdopen(read, "rb") as pipe, transfer.opened(pipe) as file:
        assert file.seekable()
        assert file.read() == payload
    feeder.join()


def test_a_file_of_the_callers_stays_open(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    with path.open("rb") as mine:
        with transfer.opened(mine) as file:
            assert file is mine
        assert not mine.closed


def test_a_destination_appears_whole(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with transfer.replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out"]


def test_a_failed_download_leaves_nothing(tmp_path):
    def fail():
        with transfer.replacing(tmp_path / "out") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert os.listdir(tmp_path) == []
