"""One stream that writes a resumable upload, which is a folder on disk.

The folder has the upload's declared properties (``open.json``), the bytes received (``data``), how many of them are
known to be durable (``committed``), and in the end the digest of the finished artefact (``result``). On resuming, bytes
past ``committed`` are dropped and the others are hashed again, so neither a killed server nor a power failure can leave
a hash that does not match the bytes. A lock on the folder lets one stream write at a time; the kernel releases it if
the process dies.
"""

import fcntl
import json
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from palimpsest.artifacts.digests import CHUNK_BYTES, RunningHash
from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.artifacts.objects import sync
from palimpsest.artifacts.staging import Publish, check_size, full_disk, write_all
from palimpsest.errors import Aborted, DataLoss, InvalidArgument, OutOfRange, Reason

_SYNC_BYTES = 8 << 20
"""If the server is killed, the sender has to repeat at most this many bytes."""

Find = Callable[[str], ArtifactInfo | None]
"""Looks up an artefact by digest; returns None if the store does not have it."""


@dataclass(frozen=True)
class UploadSpec:
    """The declared properties of an upload, from its first message; empty or 0 if the sender does not know them."""

    digest: str = ""
    size_bytes: int = 0
    media_type: str = ""


class UploadSession:
    """One stream that writes an upload.

    Attributes
    ----------
    artifact
        The artefact, if the store has the bytes already and nothing needs to be sent.
    size_bytes
        Bytes received so far; the offset of the next chunk.
    """

    def __init__(self, folder: Path, spec: UploadSpec, publish: Publish, renew: Find, max_bytes: int) -> None:
        self._folder = folder
        self._publish = publish
        self._renew = renew
        self._max_bytes = max_bytes
        lock = lock_folder(folder)
        if lock is None:
            message = "Another stream is writing this upload. Wait until that stream has ended, then resume."
            raise Aborted(Reason.UPLOAD_BUSY, message, retry_after=1)
        self._lock = lock
        self._data = -1
        self._unread = 0  # bytes of earlier streams that are not hashed yet
        try:
            self._spec = self._declare(spec)
            self._hash = RunningHash()
            self.artifact = self._existing()
            if self.artifact is None:
                self._resume()
        except BaseException:
            self.close()
            raise

    @property
    def size_bytes(self) -> int:
        """Bytes received so far."""
        return self._hash.size_bytes + self._unread

    def _declare(self, spec: UploadSpec) -> UploadSpec:
        record = self._folder / "open.json"
        if not record.exists():
            partial = self._folder / "open.partial"
            partial.write_text(json.dumps(asdict(spec)))
            partial.replace(record)
            return spec
        earlier = UploadSpec(**json.loads(record.read_text()))
        for name, value in asdict(spec).items():
            if value and value != getattr(earlier, name):
                message = (
                    f"This upload was started with {name} {getattr(earlier, name)!r}, not {value!r}. Use a new upload "
                    "id for other content."
                )
                raise InvalidArgument.field(Reason.UPLOAD_REUSED, f"open.{name}", message)
        return earlier

    def _existing(self) -> ArtifactInfo | None:
        """The artefact, if the store has it already, from this upload or another."""
        digest = self._spec.digest or result_of(self._folder)
        info = self._renew(digest) if digest else None
        if info is not None:
            self._remember(info.digest)
        return info

    def _remember(self, digest: str) -> None:
        partial = self._folder / "result.partial"
        partial.write_text(digest)
        partial.replace(self._folder / "result")

    def _resume(self) -> None:
        self._data = os.open(self._folder / "data", os.O_RDWR | os.O_CREAT, 0o600)
        self._synced = self._unread = committed_size(self._folder)
        os.ftruncate(self._data, self._synced)

    def read_back(self, limit: int | None = None) -> bool:
        """Hash bytes that earlier streams sent; return whether all of them are hashed.

        Writing does it first. A server does it in steps of ``limit`` bytes: reading back a large upload takes minutes.
        """
        done = 0
        while self._unread and (limit is None or done < limit):
            data = os.read(self._data, CHUNK_BYTES)
            self._hash.update(data)
            self._unread = self._unread - len(data) if data else 0
            done += len(data)
        return not self._unread

    def write(self, offset: int, data: bytes, crc32: int | None = None) -> None:
        """Write one chunk.

        Raises
        ------
        OutOfRange
            UPLOAD_OFFSET: offset is not size_bytes; metadata has the committed_size to continue from.
        DataLoss
            CHECKSUM_MISMATCH: the chunk was damaged in transit; send it again.
        InvalidArgument
            UPLOAD_TOO_LONG: there are more bytes than were declared.
        ResourceExhausted
            STORE_FULL or ARTIFACT_TOO_LARGE; earlier chunks are kept.
        """
        self.read_back()
        size = self.size_bytes
        if offset != size:
            message = (
                f"The chunk starts at offset {offset}, but {size} bytes were received. Continue from {size}."
            )
            raise OutOfRange(Reason.UPLOAD_OFFSET, message, metadata={"committed_size": size})
        if crc32 is not None and zlib.crc32(data) != crc32:
            message = f"The CRC-32 of the chunk at offset {offset} does not match its bytes. Send it again."
            raise DataLoss(Reason.CHECKSUM_MISMATCH, message, metadata={"committed_size": size})
        if 0 < self._spec.size_bytes < size + len(data):
            message = (
                f"The upload declared {self._spec.size_bytes} bytes, but this chunk ends at {size + len(data)}. Use a "
                "new upload id."
            )
            raise InvalidArgument.field(Reason.UPLOAD_TOO_LONG, "chunk.data", message)
        check_size(size + len(data), self._max_bytes)
        with full_disk():
            try:
                write_all(self._data, data)
            except OSError:
                os.ftruncate(self._data, size)
                os.lseek(self._data, size, os.SEEK_SET)
                raise
        self._hash.update(data)
        if self.size_bytes - self._synced >= _SYNC_BYTES:
            self._sync()

    def finish(self) -> ArtifactInfo:
        """Publish the bytes as an artefact; durable when this returns.

        Raises
        ------
        OutOfRange
            UPLOAD_OFFSET: fewer bytes than declared were received; continue from committed_size.
        DataLoss
            DIGEST_MISMATCH: the bytes do not have the declared digest; the upload is empty again.
        """
        if self.artifact is not None:
            return self.artifact
        self.read_back()
        hashes, spec = self._hash.hashes(), self._spec
        if hashes.size_bytes < spec.size_bytes:
            message = (
                f"{hashes.size_bytes} of {spec.size_bytes} bytes were received. Continue from offset "
                f"{hashes.size_bytes}."
            )
            raise OutOfRange(
                Reason.UPLOAD_OFFSET, message, metadata={"committed_size": str(hashes.size_bytes)}
            )
        if spec.digest and hashes.digest != spec.digest:
            self._hash = RunningHash()
            os.ftruncate(self._data, 0)
            os.lseek(self._data, 0, os.SEEK_SET)
            self._sync()
            message = f"The bytes sent have digest {hashes.digest}, not {spec.digest}. Send them again from offset 0."
            raise DataLoss(Reason.DIGEST_MISMATCH, message, metadata={"digest": hashes.digest})
        with full_disk():
            self._sync()
            # Recorded before the bytes move: an interrupted upload can then find its artefact.
            self._remember(hashes.digest)
            self.artifact = self._publish(self._folder / "data", hashes, spec.media_type)
        return self.artifact

    def _sync(self) -> None:
        os.fsync(self._data)
        # Overwritten in place, never truncated: a size once reported must survive.
        record = os.open(self._folder / "committed", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(record, b"%020d" % self.size_bytes, 0)
            os.fsync(record)
        finally:
            os.close(record)
        if self._synced == 0:
            sync(self._folder)
        self._synced = self.size_bytes

    def close(self) -> None:
        """Make the bytes received durable, and release the lock for other streams.

        Raises
        ------
        ResourceExhausted
            STORE_FULL: bytes received since the last sync have to be sent again.
        """
        try:
            if self._data >= 0 and self.artifact is None and self.size_bytes != self._synced:
                # Recording the size takes space too; bytes that are not recorded are sent again.
                with full_disk():
                    self._sync()
        finally:
            if self._data >= 0:
                os.close(self._data)
                self._data = -1
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def committed_size(folder: Path) -> int:
    """Number of bytes of an upload that are known to be durable."""
    try:
        return min(int((folder / "committed").read_bytes() or b"0"), (folder / "data").stat().st_size)
    except FileNotFoundError:
        return 0


def result_of(folder: Path) -> str:
    """Digest of the artefact that an upload was published as, or is being published as; empty before."""
    try:
        return (folder / "result").read_text()
    except FileNotFoundError:
        return ""


def lock_folder(folder: Path) -> int | None:
    """Create and lock an upload's folder; None if it is locked already. Close the descriptor to unlock it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The folder may have been deleted between opening and locking.
            if os.fstat(lock).st_nlink:
                now = time.time()
                os.utime(folder / "lock", (now, now))
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        os.close(lock)
