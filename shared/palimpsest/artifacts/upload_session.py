"""One resumable upload: a folder on the disk, and one stream's hold on it.

The folder has what was announced (``open.json``), the bytes so far (``data``), how many of them are known to be
on the disk (``committed``), and at the end the digest of the artefact they became (``result``). Bytes past
``committed`` are dropped on resuming, and what remains is hashed again, so neither a killed server nor a power
cut can leave a hash that does not fit the bytes. A lock on the folder lets one stream write at a time; the
kernel lifts it if the process dies.
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
"""A killed server costs the sender at most this many bytes again."""

Find = Callable[[str], ArtifactInfo | None]
"""Looks an artefact up by digest; None if the store does not hold it."""


@dataclass(frozen=True)
class UploadSpec:
    """What the first message of an upload says about it; empty and 0 where the sender does not know."""

    digest: str = ""
    size_bytes: int = 0
    media_type: str = ""


class UploadSession:
    """One stream's hold on an upload.

    Attributes
    ----------
    artifact
        Set if the bytes are in the store already, so that nothing need be sent.
    size_bytes
        Bytes taken so far; the next chunk's offset.
    """

    def __init__(
        self, place: Path, announced: UploadSpec, publish: Publish, renew: Find, max_bytes: int
    ) -> None:
        self._place = place
        self._publish = publish
        self._renew = renew
        self._max_bytes = max_bytes
        lock = lock_folder(place)
        if lock is None:
            message = "Another stream is writing this upload. Wait until it has ended, then resume."
            raise Aborted(Reason.UPLOAD_BUSY, message, retry_after=1)
        self._lock = lock
        self._data = -1
        try:
            self._announced = self._announce(announced)
            self._hash = RunningHash()
            self.artifact = self._held()
            if self.artifact is None:
                self._resume()
        except BaseException:
            self.close()
            raise

    @property
    def size_bytes(self) -> int:
        """Bytes taken so far."""
        return self._hash.size_bytes

    def _announce(self, announced: UploadSpec) -> UploadSpec:
        record = self._place / "open.json"
        if not record.exists():
            partial = self._place / "open.partial"
            partial.write_text(json.dumps(asdict(announced)))
            partial.replace(record)
            return announced
        earlier = UploadSpec(**json.loads(record.read_text()))
        for name, value in asdict(announced).items():
            if value and value != getattr(earlier, name):
                message = (
                    f"This upload was begun with {name} {getattr(earlier, name)!r}. Use a new upload id."
                )
                raise InvalidArgument.field(Reason.UPLOAD_REUSED, f"open.{name}", message)
        return earlier

    def _held(self) -> ArtifactInfo | None:
        """The artefact, if the store has it: because this upload made it, or because someone else did."""
        digest = self._announced.digest or result_of(self._place)
        info = self._renew(digest) if digest else None
        if info is not None:
            self._remember(info.digest)
        return info

    def _remember(self, digest: str) -> None:
        partial = self._place / "result.partial"
        partial.write_text(digest)
        partial.replace(self._place / "result")

    def _resume(self) -> None:
        self._data = os.open(self._place / "data", os.O_RDWR | os.O_CREAT, 0o600)
        size = committed_size(self._place)
        os.ftruncate(self._data, size)
        while data := os.read(self._data, CHUNK_BYTES):
            self._hash.update(data)
        self._synced = size

    def write(self, offset: int, data: bytes, crc32: int | None = None) -> None:
        """Take one chunk.

        Raises
        ------
        OutOfRange
            UPLOAD_OFFSET: offset is not size_bytes; metadata has the committed_size to go on from.
        DataLoss
            CHECKSUM_MISMATCH: damaged on the way; send it again.
        InvalidArgument
            UPLOAD_TOO_LONG: more bytes than were announced.
        ResourceExhausted
            STORE_FULL or ARTIFACT_TOO_LARGE; what was taken before is kept.
        """
        size = self.size_bytes
        if offset != size:
            message = f"The chunk begins at {offset}, but {size} bytes are here. Go on from {size}."
            raise OutOfRange(Reason.UPLOAD_OFFSET, message, metadata={"committed_size": size})
        if crc32 is not None and zlib.crc32(data) != crc32:
            message = f"The chunk at {offset} was damaged on the way. Send it again."
            raise DataLoss(Reason.CHECKSUM_MISMATCH, message, metadata={"committed_size": size})
        if 0 < self._announced.size_bytes < size + len(data):
            message = (
                f"{self._announced.size_bytes} bytes were announced and more were sent. Use a new upload id."
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
        """Commit the bytes as an artefact; durable when this returns.

        Raises
        ------
        OutOfRange
            UPLOAD_OFFSET: fewer bytes than announced; go on from committed_size.
        DataLoss
            DIGEST_MISMATCH: not the bytes announced; the upload is empty again.
        """
        if self.artifact is not None:
            return self.artifact
        hashes, announced = self._hash.hashes(), self._announced
        if hashes.size_bytes < announced.size_bytes:
            message = f"Only {hashes.size_bytes} of {announced.size_bytes} bytes are here. Go on from there."
            raise OutOfRange(
                Reason.UPLOAD_OFFSET, message, metadata={"committed_size": str(hashes.size_bytes)}
            )
        if announced.digest and hashes.digest != announced.digest:
            self._hash = RunningHash()
            os.ftruncate(self._data, 0)
            os.lseek(self._data, 0, os.SEEK_SET)
            self._sync()
            message = f"The bytes sent are {hashes.digest}, not {announced.digest}. Send them again from 0."
            raise DataLoss(Reason.DIGEST_MISMATCH, message, metadata={"digest": hashes.digest})
        with full_disk():
            self._sync()
            # Before the bytes move: whoever finds it knows which artefact to look for.
            self._remember(hashes.digest)
            self.artifact = self._publish(self._place / "data", hashes, announced.media_type)
        return self.artifact

    def _sync(self) -> None:
        os.fsync(self._data)
        # In place and never emptied first: a number once reported must be found again.
        record = os.open(self._place / "committed", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(record, b"%020d" % self.size_bytes, 0)
            os.fsync(record)
        finally:
            os.close(record)
        if self._synced == 0:
            sync(self._place)
        self._synced = self.size_bytes

    def close(self) -> None:
        """Make what was taken durable and let other streams in.

        Raises
        ------
        ResourceExhausted
            STORE_FULL: what came since the last sync has to be sent again.
        """
        try:
            if self._data >= 0 and self.artifact is None and self.size_bytes != self._synced:
                # Even noting how much there is takes room; what is not noted is sent again.
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


def committed_size(place: Path) -> int:
    """Bytes of an upload known to be on the disk."""
    try:
        return min(int((place / "committed").read_bytes() or b"0"), (place / "data").stat().st_size)
    except FileNotFoundError:
        return 0


def result_of(place: Path) -> str:
    """Digest of the artefact an upload became, or was about to become; empty before that."""
    try:
        return (place / "result").read_text()
    except FileNotFoundError:
        return ""


def lock_folder(place: Path) -> int | None:
    """Lock an upload's folder, made if missing; None if another holds it. Close the descriptor to unlock."""
    while True:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The folder may have expired between opening and locking.
            if os.fstat(lock).st_nlink:
                now = time.time()
                os.utime(place / "lock", (now, now))
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        os.close(lock)
