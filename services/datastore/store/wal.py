"""The write-ahead log of a corpus: documents added and deleted since its segments were sealed.

A record is ``magic, length, epoch, kind, crc32`` followed by its payload; the checksum covers all of it. An append ends
with fsync, so an acknowledged record is on disk. A truncated record at the end of the log was never acknowledged and
is dropped; a damaged record with a valid one after it *was* acknowledged, and is reported.

The acknowledged length is noted in a file beside the log, after the fsync and without an fsync of its own. Wherever
that note reached the disk, bit rot in the very last record can be told from a record truncated by a crash.

Losing a deletion would bring a document back, and deletions are small: they are written a second time, to a log of
their own.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np

from palimpsest.disk import sync

_MAGIC = b"\xa5PWL"
_HEAD = struct.Struct("<4sIQBI")
"""Magic, length of the payload, epoch, kind, CRC-32 of length, epoch, kind and payload."""
_COVERED = struct.Struct("<IQB")
_NOTE = struct.Struct("<QI")
LARGEST = 1 << 30


class Kind(IntEnum):
    """The kinds of change a record can hold."""

    ADD = 1
    DELETE = 2
    VECTORS = 3


@dataclass(frozen=True)
class Record:
    """One change: its epoch, kind and payload."""

    epoch: int
    kind: Kind
    payload: bytes

    def to_bytes(self) -> bytes:
        """Serialise the record."""
        covered = _COVERED.pack(len(self.payload), self.epoch, self.kind)
        crc = zlib.crc32(self.payload, zlib.crc32(covered))
        return _HEAD.pack(_MAGIC, len(self.payload), self.epoch, self.kind, crc) + self.payload


@dataclass
class Scan:
    """The result of reading a log.

    Attributes
    ----------
    records
        Valid records, in order.
    end
        Offset after the last valid record; bytes beyond it were never acknowledged.
    damaged
        Ranges (start, end) of acknowledged bytes that no longer hold a valid record.
    """

    records: list[Record] = field(default_factory=list)
    end: int = 0
    damaged: list[tuple[int, int]] = field(default_factory=list)


def _record_at(data: memoryview, at: int, after: int) -> tuple[Record, int] | None:
    """The valid record at an offset, and the offset after it; None if there is none."""
    if at + _HEAD.size > len(data):
        return None
    magic, length, epoch, kind, crc = _HEAD.unpack_from(data, at)
    start = at + _HEAD.size
    if magic != _MAGIC or length > LARGEST or start + length > len(data) or epoch <= after:
        return None
    payload = data[start : start + length]
    if zlib.crc32(payload, zlib.crc32(_COVERED.pack(length, epoch, kind))) != crc or kind not in set(Kind):
        return None
    return Record(epoch, Kind(kind), bytes(payload)), start + length


def scan(data: bytes | memoryview, after: int = 0) -> Scan:
    """Parse the records of a log, with epochs ascending from ``after``."""
    view, found, at = memoryview(data), Scan(), 0
    raw = bytes(view)
    while at < len(view):
        valid = _record_at(view, at, after)
        if valid is None:
            valid, start = _resume(view, raw, at + 1, after), at
            if valid is None:
                break
            record, at = valid
            found.damaged.append((start, at - _HEAD.size - len(record.payload)))
        else:
            record, at = valid
        found.records.append(record)
        found.end, after = at, record.epoch
    return found


def _resume(view: memoryview, raw: bytes, at: int, after: int) -> tuple[Record, int] | None:
    """The next valid record at or after an offset, and the offset after it; None if there is none."""
    while (at := raw.find(_MAGIC, at)) >= 0:
        valid = _record_at(view, at, after)
        if valid is not None:
            return valid
        at += 1
    return None


class LogFile:
    """One log file: appended to by the holder of the corpus's file lock, read by every process.

    Parameters
    ----------
    path
        An existing file; see ``create``.

    Raises
    ------
    FileNotFoundError
        The file does not exist, or was sealed a moment ago: read the manifest again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = 0
        self._after = 0
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115
        self._note = os.open(path.with_suffix(".acked"), os.O_RDWR | os.O_CREAT, 0o600)

    @staticmethod
    def create(path: Path) -> None:
        """Create an empty log, durably."""
        path.touch(exist_ok=True)
        sync(path.parent)

    def read_on(self) -> Scan:
        """Return the records appended since the last call."""
        acknowledged = self._acknowledged()
        size = os.fstat(self._file.fileno()).st_size
        if max(size, acknowledged) <= self.end:
            return Scan(end=self.end)
        self._file.seek(self.end)
        data = self._file.read(size - self.end) if size > self.end else b""
        found = scan(data, self._after)
        base, self.end = self.end, self.end + found.end
        if found.records:
            self._after = found.records[-1].epoch
        found.damaged = [(base + a, base + b) for a, b in found.damaged]
        if self.end < acknowledged:
            found.damaged.append((self.end, acknowledged))
            self.end = acknowledged
        return found

    def _acknowledged(self) -> int:
        """Acknowledged length of the log, in bytes; 0 if the note is missing or damaged."""
        note = os.pread(self._note, _NOTE.size, 0)
        if len(note) < _NOTE.size:
            return 0
        end, crc = _NOTE.unpack(note)
        return end if zlib.crc32(note[:8]) == crc else 0

    def append(self, records: Sequence[Record]) -> None:
        """Append records durably. The caller holds the file lock and has read the log to its end."""
        data = b"".join(record.to_bytes() for record in records)
        self._file.seek(
            self.end
        )  # beyond the end if damage shortened the file: the gap still counts as damage
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            # Remove what is left of a truncated record: with valid records after it, it would look like damage.
            self._file.truncate()
            os.fsync(self._file.fileno())
        except BaseException:
            self.give_back()
            raise
        self.end += len(data)
        self._after = records[-1].epoch
        end = struct.pack("<Q", self.end)
        with contextlib.suppress(OSError):  # the records are durable; a lost note only protects them less
            os.pwrite(self._note, end + struct.pack("<I", zlib.crc32(end)), 0)

    def reserve(self, records: Sequence[Record]) -> None:
        """Take the space that appending these records needs, so that it cannot fail on a full disk.

        Until they are appended, readers see zeros after the end, which are no record.
        """
        size = sum(len(record.to_bytes()) for record in records)
        try:
            os.posix_fallocate(self._file.fileno(), self.end, size)
        except OSError:
            self.give_back()
            raise

    def give_back(self) -> None:
        """Drop what was reserved or written after the last acknowledged record."""
        self._file.truncate(self.end)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        os.close(self._note)


_TOMB = struct.Struct("<16sI")
_VECTORS = struct.Struct("<16sII")


def tombstone_record(epoch: int, id_digest: bytes, version: int) -> Record:
    """The record of a deletion: it ends all versions of a document up to this one."""
    return Record(epoch, Kind.DELETE, _TOMB.pack(id_digest, version))


def read_tombstone(record: Record) -> tuple[bytes, int]:
    """Digest of the document's id, 16 bytes, and the last version that the tombstone ends."""
    return _TOMB.unpack(record.payload)


def vectors_record(epoch: int, id_digest: bytes, version: int, vectors: np.ndarray) -> Record:
    """The record of vectors computed after their document was added, float [passages, dim]."""
    head = _VECTORS.pack(id_digest, version, len(vectors))
    return Record(epoch, Kind.VECTORS, head + np.ascontiguousarray(vectors, "<f2").tobytes())


def read_vectors(record: Record) -> tuple[bytes, int, np.ndarray]:
    """Digest of the document's id, its version, and its vectors, float16 [passages, dim]."""
    digest, version, count = _VECTORS.unpack_from(record.payload)
    return digest, version, np.frombuffer(record.payload, "<f2", offset=_VECTORS.size).reshape(count, -1)
