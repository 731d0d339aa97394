"""Reading what was stored, and believing none of it unchecked.

A whole read hashes as it goes and keeps the last chunk back until the digest is known to be right. A partial
read checks each piece it touches against that piece's own hash, recorded when the blob was written. Bytes that
fail are read once more in full: if they are good after all, the reading was at fault; if not, the blob is set
aside and every later request for it is answered DATA_LOSS until it is stored again.
"""

import dataclasses
import hashlib
import io
from collections.abc import Generator
from typing import BinaryIO

from palimpsest.artifacts.digests import CHUNK_BYTES, DIGEST_BYTES, RunningHash, hex_of
from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.artifacts.layout import blob_name, meta_name, pieces_name, record, set_aside
from palimpsest.artifacts.objects import Objects
from palimpsest.errors import DataLoss, NotFound, Reason, Unavailable


class StoredBlob:
    """One stored blob and what is known about it."""

    def __init__(self, objects: Objects, info: ArtifactInfo) -> None:
        self._objects = objects
        self.info = info

    def open(self) -> BinaryIO:
        """Its bytes from the start.

        Raises
        ------
        DataLoss
            ARTIFACT_CORRUPT: they are gone.
        NotFound
            ARTIFACT_NOT_FOUND: it was deleted a moment ago.
        """
        digest = self.info.digest
        try:
            return self._objects.open(blob_name(digest))
        except FileNotFoundError:
            if not self._objects.present([meta_name(digest)])[0]:
                raise not_found(digest) from None
            set_aside(self._objects, digest)
            raise corrupt(digest) from None

    def pieces(self) -> bytes:
        """The hashes of its pieces, as in Hashes.pieces; empty if they are lost."""
        if self.info.size_bytes <= CHUNK_BYTES:
            return bytes.fromhex(hex_of(self.info.digest))
        try:
            with self._objects.open(pieces_name(self.info.digest)) as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def examine(self) -> ArtifactInfo:
        """Hash it all. If it is good, put its records right; if not, set it aside.

        Raises
        ------
        DataLoss
            ARTIFACT_CORRUPT.
        """
        running = RunningHash()
        with self.open() as file:
            while data := file.read(CHUNK_BYTES):
                running.update(data)
        hashes = running.hashes()
        if hashes.digest != self.info.digest:
            set_aside(self._objects, self.info.digest)
            raise corrupt(self.info.digest)
        self.info = dataclasses.replace(self.info, size_bytes=hashes.size_bytes)
        record(self._objects, self.info, hashes)
        return self.info


def read_whole(blob: StoredBlob) -> Generator[bytes]:
    """Yield a blob in chunks of at most CHUNK_BYTES; the last comes only once the digest is right.

    Raises
    ------
    DataLoss
        ARTIFACT_CORRUPT.
    Unavailable
        ARTIFACT_READ_FAILED: the stored bytes are good but arrived garbled.
    """
    digest = hashlib.sha256()
    held, size = b"", 0
    with blob.open() as file:
        while (data := file.read(CHUNK_BYTES)) and size <= blob.info.size_bytes:
            if held:
                yield held
            digest.update(data)
            held, size = data, size + len(data)
    if f"sha256:{digest.hexdigest()}" != blob.info.digest:
        blob.examine()
        raise _garbled(blob.info)
    if held:
        yield held


def read_part(blob: StoredBlob, start: int, end: int) -> Generator[bytes]:
    """Yield bytes start to end of a blob, each piece checked before any of it is given out.

    Raises
    ------
    DataLoss
        ARTIFACT_CORRUPT.
    Unavailable
        ARTIFACT_READ_FAILED: the stored bytes are good but arrived garbled.
    """
    pieces = blob.pieces()
    with blob.open() as file:
        for index in range(start // CHUNK_BYTES, -(-end // CHUNK_BYTES)):
            base = index * CHUNK_BYTES
            file.seek(base)
            data = file.read(CHUNK_BYTES)
            if not _fits(data, pieces, index):
                blob.examine()
                pieces = blob.pieces()
                if not _fits(data, pieces, index):
                    raise _garbled(blob.info)
            if wanted := data[max(start - base, 0) : end - base]:
                yield wanted


class ChunkFile(io.RawIOBase):
    """Verified chunks as a file: read forward only."""

    def __init__(self, chunks: Generator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill buffer with what comes next; 0 at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Release the blob."""
        self._chunks.close()
        super().close()


def not_found(digest: str) -> NotFound:
    """The answer for an artefact the store does not hold."""
    message = f"The store holds no artefact {digest}. Upload it first."
    return NotFound(Reason.ARTIFACT_NOT_FOUND, message, metadata={"digest": digest})


def corrupt(digest: str) -> DataLoss:
    """The answer for a blob that no longer has its digest."""
    message = f"The stored bytes of {digest} are damaged and have been set aside. Upload the artefact again."
    return DataLoss(Reason.ARTIFACT_CORRUPT, message, metadata={"digest": digest})


def _fits(data: bytes, pieces: bytes, index: int) -> bool:
    expected = pieces[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
    return hashlib.sha256(data).digest() == expected


def _garbled(info: ArtifactInfo) -> Unavailable:
    message = f"{info.digest} was not read correctly, though what is stored is good. Read it again."
    return Unavailable(Reason.ARTIFACT_READ_FAILED, message, retry_after=1)
