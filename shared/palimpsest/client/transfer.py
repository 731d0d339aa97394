"""Uploads and downloads, apart from the calls: sources, destinations, chunks."""

import hashlib
import io
import os
import shutil
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from palimpsest.api.artifacts.v1 import artifacts_pb2

CHUNK_BYTES = 1 << 20
"""The contract's limit for one message."""

Progress = Callable[[int, int], object]
"""Called with the bytes done and the total."""

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
Destination = str | os.PathLike[str] | BinaryIO


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """Give the source as a seekable file; a pipe or socket goes through a temporary file first.

    An upload has to know its digest before it starts and to repeat any part of itself, so one pass over the
    bytes is not enough. Only what this opened is closed.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            yield file
    elif source.seekable():
        yield source
    else:
        with tempfile.TemporaryFile() as spool:
            shutil.copyfileobj(source, spool, CHUNK_BYTES)
            spool.seek(0)
            yield cast(BinaryIO, spool)


class Chunks:
    """The rest of a file, from its current position, as messages; safe to read from several threads.

    A broken call may still be asking for its next chunk while the call that replaces it starts over.

    Attributes
    ----------
    digest, size
        Of the whole, read once at the start.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.tell()
        self._lock = threading.Lock()
        sha256, self.size = hashlib.sha256(), 0
        while data := file.read(CHUNK_BYTES):
            sha256.update(data)
            self.size += len(data)
        self.digest = f"sha256:{sha256.hexdigest()}"

    def at(self, offset: int) -> artifacts_pb2.WriteArtifactRequest | None:
        """Return the message that carries the bytes at offset; None at the end."""
        with self._lock:
            self._file.seek(self._start + offset)
            data = self._file.read(CHUNK_BYTES)
        if not data:
            return None
        chunk = artifacts_pb2.WriteArtifactRequest.Chunk(offset=offset, data=data, crc32=zlib.crc32(data))
        return artifacts_pb2.WriteArtifactRequest(chunk=chunk)


@contextmanager
def replacing(destination: Destination) -> Iterator[BinaryIO]:
    """Give a file to write; a path appears there whole at the end or not at all."""
    if not isinstance(destination, str | os.PathLike):
        yield destination
        return
    path = Path(destination)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # mkstemp is stricter than the file a user would have made
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
