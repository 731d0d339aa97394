"""Token keys of passages on disk: one file for each distinct token sequence; the least recently used are evicted.

A block holds ``int8 [n, d]`` keys, ``float32 [n]`` scales and ``float32 [n]`` squared norms, behind a header that
identifies the model. Keys of another model are never read: they have a folder of their own, and the header is checked.
"""

import contextlib
import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from palimpsest.disk import replace_file, sync
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason

_HEAD = struct.Struct("<4sIII32s")
"""Magic, tokens, elements of a key, CRC-32 of what follows, SHA-256 of the model's fingerprint."""
_MAGIC = b"PKB1"
_SLACK = 0.9
"""Eviction shrinks the store to this share of its limit, so that the next block does not evict again."""


class KeyBlock(NamedTuple):
    """Quantised keys int8 [n, d], scales float32 [n] (0: no key), squared norms float32 [n]."""

    keys: np.ndarray
    scales: np.ndarray
    norms: np.ndarray


class KeyStore:
    """The token keys of one corpus. May be used from any thread and process.

    Parameters
    ----------
    folder
        Holds the keys; created with the first block.
    fingerprint
        Fingerprint of the model.
    limit
        Bytes to keep; 0 for no limit.
    """

    def __init__(self, folder: Path, fingerprint: str, limit: int = 0) -> None:
        self._identity = hashlib.sha256(fingerprint.encode()).digest()
        self._root, self._folder = folder, folder / self._identity[:8].hex()
        self._fingerprint, self._limit = fingerprint, limit
        self._lock = threading.Lock()
        self._size: int | None = None

    def put(self, digest: bytes, block: KeyBlock, fingerprint: str) -> None:
        """Store the keys of a token sequence under its digest; a block is stored whole or not at all.

        Raises
        ------
        FailedPrecondition
            CORPUS_MODEL_MISMATCH: another model computed them.
        InvalidArgument
            KEYS_INVALID: the shapes do not match, or a value is negative or not finite.
        """
        if fingerprint != self._fingerprint:
            raise FailedPrecondition(
                Reason.CORPUS_MODEL_MISMATCH,
                f"These keys were computed by a model with fingerprint {fingerprint[:19]}…; the corpus is bound to "
                f"{self._fingerprint[:19]}…. Compute them with the corpus's model.",
                metadata={"found": fingerprint, "expected": self._fingerprint},
            )
        count, size = check_block(block)
        body = b"".join(
            (
                np.ascontiguousarray(block.keys, np.int8).tobytes(),
                np.ascontiguousarray(block.scales, "<f4").tobytes(),
                np.ascontiguousarray(block.norms, "<f4").tobytes(),
            )
        )
        data = _HEAD.pack(_MAGIC, count, size, zlib.crc32(body), self._identity) + body
        path = self._path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(
            path, data
        )  # not durably: a lost block is recomputed, and the checksum detects a torn one
        self._grow(len(data))

    def get(self, digest: bytes, tokens: int) -> KeyBlock | None:
        """Map the keys of a token sequence; None if they are missing or damaged. Damaged blocks are deleted."""
        path = self._path(digest)
        try:
            data: Any = np.memmap(path, np.uint8, "r")
        except (FileNotFoundError, ValueError):
            return None
        try:
            magic, count, size, crc, identity = _HEAD.unpack_from(data)
        except struct.error:
            return None
        body = data[_HEAD.size :]
        expected = (magic, count, identity) == (_MAGIC, tokens, self._identity)
        if not expected or len(body) != count * (size + 8) or zlib.crc32(body) != crc:
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)  # mark as recently used
        keys = body[: count * size].view(np.int8).reshape(count, size)  # [n, d] int8
        rest = np.frombuffer(body[count * size :].tobytes(), "<f4")  # [2 n] float32
        return KeyBlock(keys, rest[:count], rest[count:])

    def has(self, digest: bytes) -> bool:
        """Whether the keys of a token sequence are stored."""
        return self._path(digest).exists()

    def keep_only(self, digests: Iterable[bytes]) -> int:
        """Delete all other blocks, and all blocks of other models; returns how many were deleted."""
        kept = {self._path(d) for d in digests}
        deleted = 0
        for path in list(self._root.rglob("*")):
            if path.is_file() and path not in kept:
                path.unlink(missing_ok=True)
                deleted += 1
        if deleted:
            sync(self._root)
        with self._lock:
            self._size = None
        return deleted

    @property
    def size(self) -> int:
        """Bytes stored."""
        with self._lock:
            return self._measured()

    def count(self) -> int:
        """Number of blocks stored."""
        return sum(1 for _ in self._folder.glob("*/*.keys"))

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._folder / name[:2] / f"{name}.keys"

    def _measured(self) -> int:
        if self._size is None:
            self._size = sum(entry[1] for entry in self._entries())
        return self._size

    def _entries(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in self._folder.glob("*/*.keys"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found.append((stat.st_mtime, stat.st_size, path))
        return found

    def _grow(self, size: int) -> None:
        with self._lock:
            self._size = self._measured() if self._size is None else self._size + size
            if not self._limit or self._size <= self._limit:
                return
            # Other processes add and delete blocks too: measure the folder before evicting anything.
            entries = sorted(self._entries())
            total = sum(entry[1] for entry in entries)
            for _, length, path in entries:
                if total <= self._limit * _SLACK:
                    break
                path.unlink(missing_ok=True)
                total -= length
            self._size = total


def check_block(block: KeyBlock) -> tuple[int, int]:
    """Number of tokens and elements per key of a block.

    Raises
    ------
    InvalidArgument
        KEYS_INVALID.
    """
    count = len(block.scales)
    shapes_match = block.keys.ndim == 2 and len(block.keys) == count == len(block.norms)
    values = (block.scales, block.norms)
    if not shapes_match or not all(np.isfinite(a).all() and (a >= 0).all() for a in values):
        message = (
            f"Keys {list(block.keys.shape)}, scales [{count}] and norms [{len(block.norms)}] must cover the same "
            "tokens, and scales and norms must be finite and not negative."
        )
        raise InvalidArgument(Reason.KEYS_INVALID, message)
    return count, block.keys.shape[1]
