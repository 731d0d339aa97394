"""Verified reads of stored blobs.

A whole read hashes the bytes as it streams them and holds back the last chunk until the digest is verified. A partial
read verifies each chunk it touches against the hash recorded when the blob was written. If verification fails, the
whole blob is read and hashed again: if it is intact, the read was at fault; if not, the blob is quarantined, and later
requests fail with DATA_LOSS until the artefact is stored again.
"""

import dataclasses
import hashlib
import io
from collections.abc import Generator
from typing import BinaryIO

from palimpsest.artifacts.digests import CHUNK_BYTES, DIGEST_BYTES, RunningHash, hex_of
from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.artifacts.layout import blob_name, chunk_hashes_name, meta_name, quarantine, record
from palimpsest.artifacts.objects import Objects
from palimpsest.errors import DataLoss, NotFound, Reason, Unavailable


class StoredBlob:
    """One stored blob with its metadata."""

    def __init__(self, objects: Objects, info: ArtifactInfo) -> None:
        self._objects = objects
        self.info = info

    def open(self) -> BinaryIO:
        """Open the blob's bytes.

        Raises
        ------
        DataLoss
            ARTIFACT_CORRUPT: the bytes are missing.
        NotFound
            ARTIFACT_NOT_FOUND: the artefact was deleted a moment ago.
        """
        digest = self.info.digest
        try:
            return self._objects.open(blob_name(digest))
        except FileNotFoundError:
            if not self._objects.present([meta_name(digest)])[0]:
                raise not_found(digest) from None
            quarantine(self._objects, digest)
            raise corrupt(digest) from None

    def chunk_hashes(self) -> bytes:
        """The hashes of the blob's chunks, as in ``Hashes.chunks``; empty if they are lost."""
        if self.info.size_bytes <= CHUNK_BYTES:
            return bytes.fromhex(hex_of(self.info.digest))
        try:
            with self._objects.open(chunk_hashes_name(self.info.digest)) as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def examine(self) -> ArtifactInfo:
        """Hash the whole blob. If it is intact, rewrite its sidecar and chunk hashes; if not, quarantine it.

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
            quarantine(self._objects, self.info.digest)
            raise corrupt(self.info.digest)
        self.info = dataclasses.replace(self.info, size_bytes=hashes.size_bytes)
        record(self._objects, self.info, hashes)
        return self.info


def read_whole(blob: StoredBlob) -> Generator[bytes]:
    """Yield a blob in chunks of at most CHUNK_BYTES; the last chunk only once the digest is verified.

    Raises
    ------
    DataLoss
        ARTIFACT_CORRUPT.
    Unavailable
        ARTIFACT_READ_FAILED: the stored bytes are intact, but a read returned others.
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
    """Yield bytes start to end of a blob; each chunk is verified before any of its bytes are yielded.

    Raises
    ------
    DataLoss
        ARTIFACT_CORRUPT.
    Unavailable
        ARTIFACT_READ_FAILED: the stored bytes are intact, but a read returned others.
    """
    hashes = blob.chunk_hashes()
    with blob.open() as file:
        for index in range(start // CHUNK_BYTES, -(-end // CHUNK_BYTES)):
            base = index * CHUNK_BYTES
            file.seek(base)
            data = file.read(CHUNK_BYTES)
            if not _matches(data, hashes, index):
                blob.examine()
                hashes = blob.chunk_hashes()
                if not _matches(data, hashes, index):
                    raise _garbled(blob.info)
            if wanted := data[max(start - base, 0) : end - base]:
                yield wanted


class ChunkFile(io.RawIOBase):
    """Verified chunks as a forward-only file."""

    def __init__(self, chunks: Generator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer with the next bytes; returns 0 at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Close the blob."""
        self._chunks.close()
        super().close()


def not_found(digest: str) -> NotFound:
    """Build the error for an artefact that is not in the store."""
    message = f"The store has no artefact {digest}. Upload it first."
    return NotFound(Reason.ARTIFACT_NOT_FOUND, message, metadata={"digest": digest})


def corrupt(digest: str) -> DataLoss:
    """Build the error for a blob whose bytes no longer match its digest."""
    message = f"The stored bytes of {digest} are damaged and were quarantined. Upload the artefact again."
    return DataLoss(Reason.ARTIFACT_CORRUPT, message, metadata={"digest": digest})


def _matches(data: bytes, hashes: bytes, index: int) -> bool:
    expected = hashes[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
    return hashlib.sha256(data).digest() == expected


def _garbled(info: ArtifactInfo) -> Unavailable:
    message = f"Reading {info.digest} returned wrong bytes, but the stored bytes are intact. Read it again."
    return Unavailable(Reason.ARTIFACT_READ_FAILED, message, retry_after=1)
