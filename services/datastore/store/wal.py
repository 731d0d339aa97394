"""The write-ahead log of a corpus: what was added and deleted since its segments were sealed.

A record is ``magic, length, epoch, kind, crc32`` and then its payload; the checksum covers all of it. Writing ends
with fsync, so what was acknowledged is on disk. A record cut short at the end of the log was never acknowledged and
is dropped; a damaged one with a sound record after it *was* acknowledged, and is reported.

How far was acknowledged is noted beside the log, after the fsync and without one of its own: so rot in the very last
record is told from a record cut short by a crash, wherever the note got to the disk.

Deletions are small and dear: lost, they would bring a document back. They are kept a second time, in a log of their
own beside the first.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np

from services.datastore.files import sync_folder

_MAGIC = b"\xa5PWL"
_HEAD = struct.Struct("<4sIQBI")
"""Magic, length of the payload, epoch, kind, CRC-32 of length, epoch, kind and payload."""
_COVERED = struct.Struct("<IQB")
_NOTE = struct.Struct("<QI")
LARGEST = 1 << 30


class Kind(IntEnum):
    """What a record says."""

    ADD = 1
    DELETE = 2
    VECTORS = 3


@dataclass(frozen=True)
class Record:
    """One change: its epoch, what it is, and its payload."""

    epoch: int
    kind: Kind
    payload: bytes

    def to_bytes(self) -> bytes:
        """The record as it lies in the file."""
        covered = _COVERED.pack(len(self.payload), self.epoch, self.kind)
        crc = zlib.crc32(self.payload, zlib.crc32(covered))
        return _HEAD.pack(_MAGIC, len(self.payload), self.epoch, self.kind, crc) + self.payload


@dataclass
class Scan:
    """What reading a log has found.

    Attributes
    ----------
    records
        Sound records, in order.
    end
        Offset after the last of them: what comes behind it was never acknowledged.
    damaged
        Stretches (start, end) of acknowledged bytes that are no record any more.
    """

    records: list[Record] = field(default_factory=list)
    end: int = 0
    damaged: list[tuple[int, int]] = field(default_factory=list)


def _record_at(data: memoryview, at: int, after: int) -> tuple[Record, int] | None:
    """The sound record at an offset and where it ends; None if there is none."""
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
    """Read the records of a log, epochs ascending from ``after``."""
    view, found, at = memoryview(data), Scan(), 0
    raw = bytes(view)
    while at < len(view):
        sound = _record_at(view, at, after)
        if sound is None:
            sound, start = _resume(view, raw, at + 1, after), at
            if sound is None:
                break
            record, at = sound
            found.damaged.append((start, at - _HEAD.size - len(record.payload)))
        else:
            record, at = sound
        found.records.append(record)
        found.end, after = at, record.epoch
    return found


def _resume(view: memoryview, raw: bytes, at: int, after: int) -> tuple[Record, int] | None:
    while (at := raw.find(_MAGIC, at)) >= 0:
        sound = _record_at(view, at, after)
        if sound is not None:
            return sound
        at += 1
    return None


class Log:
    """One log file, appended to by the holder of the corpus's lock and read by everyone.

    Parameters
    ----------
    path
        Of an existing file; see ``create``.

    Raises
    ------
    FileNotFoundError
        It is not there (any more): read the manifest again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = 0
        self._after = 0
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115
        self._note = os.open(path.with_suffix(".acked"), os.O_RDWR | os.O_CREAT, 0o600)

    @staticmethod
    def create(path: Path) -> None:
        """Make an empty log, durably."""
        path.touch(exist_ok=True)
        sync_folder(path.parent)

    def read_on(self) -> Scan:
        """Return what has come since the last time."""
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
        """How far the log was acknowledged, as far as is known."""
        note = os.pread(self._note, _NOTE.size, 0)
        if len(note) < _NOTE.size:
            return 0
        end, crc = _NOTE.unpack(note)
        return end if zlib.crc32(note[:8]) == crc else 0

    def append(self, records: Sequence[Record]) -> None:
        """Add records and make them durable. Only with the lock held and everything read."""
        data = b"".join(record.to_bytes() for record in records)
        # A torn tail goes first, or it would be taken for damage once sound records follow it.
        if os.fstat(self._file.fileno()).st_size > self.end:
            self._file.truncate(self.end)
        self._file.seek(self.end)  # past the end where damage took the file's tail: the gap stays damage
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(self.end)
            raise
        self.end += len(data)
        self._after = records[-1].epoch
        end = struct.pack("<Q", self.end)
        os.pwrite(self._note, end + struct.pack("<I", zlib.crc32(end)), 0)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        os.close(self._note)


_TOMB = struct.Struct("<16sI")
_VECTORS = struct.Struct("<16sII")


def tombstone(epoch: int, id_digest: bytes, version: int) -> Record:
    """The record of a deletion: versions of a document up to this one are gone."""
    return Record(epoch, Kind.DELETE, _TOMB.pack(id_digest, version))


def read_tombstone(record: Record) -> tuple[bytes, int]:
    """Digest of the document's id (16 bytes) and the last version that is gone."""
    return _TOMB.unpack(record.payload)


def vectors_record(epoch: int, id_digest: bytes, version: int, vectors: np.ndarray) -> Record:
    """The record of vectors that were computed after their document was added, float [passages, dim]."""
    head = _VECTORS.pack(id_digest, version, len(vectors))
    return Record(epoch, Kind.VECTORS, head + np.ascontiguousarray(vectors, "<f2").tobytes())


def read_vectors(record: Record) -> tuple[bytes, int, np.ndarray]:
    """Digest of the document's id, its version, and its vectors."""
    digest, version, count = _VECTORS.unpack_from(record.payload)
    return digest, version, np.frombuffer(record.payload, "<f2", offset=_VECTORS.size).reshape(count, -1)
