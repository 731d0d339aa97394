"""Bytes on their way into the store: written beside it, hashed as they come, published whole or dropped."""

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from palimpsest.artifacts.digests import Hashes, RunningHash
from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.errors import Reason, ResourceExhausted

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Publish = Callable[[Path, Hashes, str], ArtifactInfo]
"""Moves a staged file into the store under its digest, with a media type."""


class ArtifactWriter:
    """Writes one artefact; nothing of it exists before commit, and nothing stays without one.

    Use as a context manager::

        with store.writer("application/jsonl") as writer:
            writer.write(line)
            info = writer.commit()
    """

    def __init__(self, staging: Path, publish: Publish, media_type: str, max_bytes: int) -> None:
        self._path = staging / uuid.uuid4().hex
        self._publish = publish
        self._media_type = media_type
        self._max_bytes = max_bytes
        self._hash = RunningHash()
        with full_disk():
            self._file = self._path.open("xb", buffering=0)

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes; return how many.

        Raises
        ------
        ResourceExhausted
            STORE_FULL or ARTIFACT_TOO_LARGE.
        """
        check_size(self._hash.size_bytes + len(data), self._max_bytes)
        with full_disk():
            write_all(self._file.fileno(), data)
        self._hash.update(data)
        return len(data)

    def commit(self) -> ArtifactInfo:
        """Publish what was written; durable when this returns."""
        self._file.close()
        with full_disk():
            return self._publish(self._path, self._hash.hashes(), self._media_type)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of data: an unbuffered write may take only part of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def check_size(size: int, most: int) -> None:
    """Refuse an artefact that grows past the limit.

    Raises
    ------
    ResourceExhausted
        ARTIFACT_TOO_LARGE.
    """
    if size > most:
        message = f"The artefact is larger than the {most} bytes this server accepts (PALIMPSEST_ARTIFACT_MAX_BYTES)."
        raise ResourceExhausted(
            Reason.ARTIFACT_TOO_LARGE, message, metadata={"max_bytes": most, "size_bytes": size}
        )


@contextmanager
def full_disk() -> Iterator[None]:
    """Turn a full disk into ResourceExhausted (STORE_FULL)."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        message = "The artefact store is full. Collect garbage or make room on its disk, then resume."
        raise ResourceExhausted(Reason.STORE_FULL, message, retry_after=30) from error
