"""Writing an artefact: bytes are staged beside the store and hashed, then published as a whole or discarded."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from palimpsest.artifacts.digests import Hashes, RunningHash
from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.disk import room_for
from palimpsest.errors import Reason, ResourceExhausted

Publish = Callable[[Path, Hashes, str], ArtifactInfo]
"""Moves a staged file into the store under its digest, with a media type."""


class ArtifactWriter:
    """Writes one artefact. It does not exist before ``commit``; without a commit nothing is left behind.

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
        """Publish the bytes written as an artefact; durable when this returns."""
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
    """Write all of the data: one unbuffered write may write only a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def check_size(size: int, max_bytes: int) -> None:
    """Refuse an artefact that exceeds the size limit.

    Raises
    ------
    ResourceExhausted
        ARTIFACT_TOO_LARGE.
    """
    if size > max_bytes:
        message = (
            f"The artefact has {size} bytes or more; this server accepts {max_bytes}. Split it, or raise "
            "PALIMPSEST_ARTIFACT_MAX_BYTES."
        )
        metadata = {"max_bytes": max_bytes, "size_bytes": size}
        raise ResourceExhausted(Reason.ARTIFACT_TOO_LARGE, message, metadata=metadata)


@contextmanager
def full_disk() -> Iterator[None]:
    """Turn a full disk into ResourceExhausted (STORE_FULL)."""
    with room_for("this artefact in the artefact store", Reason.STORE_FULL):
        yield
