"""Opening stores that are artefacts: mapped in place, or from a copy on this machine's disk."""

import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.errors import DataLoss
from palimpsest.lru import LruCache
from palimpsest.ngrams.store import NgramStore

if TYPE_CHECKING:
    from palimpsest.artifacts import ArtifactStore

MEDIA_TYPE = "application/x-palimpsest-ngrams"
CACHE_BYTES = 16 << 30
"""Default size of the copies in a folder, in bytes."""
_HELD = 8
_SUFFIX = ".ngrams"
_LEFTOVER_SECONDS = 24 * 3600


def open_store(
    artifacts: "ArtifactStore", digest: str, folder: Path, *, cache_bytes: int = CACHE_BYTES
) -> NgramStore:
    """Map the store in an artefact.

    Where artefacts are files on this machine, the blob itself is mapped. Elsewhere it is first copied into a folder,
    atomically, and the least recently used copies make room. Either way all bytes are read once and compared with the
    digest; see ``NgramStore.open``.

    Parameters
    ----------
    artifacts
        The artefact store.
    digest
        ``sha256:<64 hex digits>``.
    folder
        For copies; created when needed. Processes may share it.
    cache_bytes
        Maximum size of the copies, including this one unless it alone is larger.

    Raises
    ------
    NotFound
        ARTIFACT_NOT_FOUND.
    DataLoss
        ARTIFACT_CORRUPT, NGRAMS_FORMAT_UNKNOWN or NGRAMS_DAMAGED.
    """
    info = artifacts.stat(digest)
    blob = artifacts.local_file(digest)
    if blob is not None:
        try:
            return NgramStore.open(blob, digest=digest)
        except (DataLoss, FileNotFoundError):
            for _ in artifacts.chunks(digest):  # quarantines the blob if it does not match its digest
                pass
            raise
    copy = folder / f"{digest.removeprefix('sha256:')}{_SUFFIX}"
    for again in (True, False):
        if not copy.exists():
            _make_room(folder, cache_bytes - info.size_bytes)
            _fetch(artifacts, digest, copy)
        try:
            found = NgramStore.open(copy, digest=digest)
            os.utime(copy)
            return found
        except FileNotFoundError:
            continue  # another process has just deleted the copy
        except DataLoss:
            copy.unlink(missing_ok=True)
            if not again:
                raise
    raise FileNotFoundError(copy)


def _fetch(artifacts: "ArtifactStore", digest: str, copy: Path) -> None:
    partial = copy.with_name(f".{uuid.uuid4().hex}")
    try:
        with partial.open("wb") as file:
            for data in artifacts.chunks(digest):
                file.write(data)
        partial.replace(copy)
    finally:
        partial.unlink(missing_ok=True)


def _make_room(folder: Path, most: int) -> None:
    """Delete the least recently used copies until the rest fits in ``most`` bytes, and leftovers of crashes."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    now, kept = time.time(), []
    for path in folder.iterdir():
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if path.suffix == _SUFFIX:
            kept.append((status.st_mtime, status.st_size, path))
        elif path.name.startswith(".") and now - status.st_mtime > _LEFTOVER_SECONDS:
            path.unlink(missing_ok=True)
    total = sum(size for _, size, _ in kept)
    for _, size, path in sorted(kept):
        if total <= most:
            break
        path.unlink(missing_ok=True)  # a process that has it mapped keeps it
        total -= size


class StoreCache:
    """Open stores by artefact digest, kept from one call to the next. Thread-safe.

    Parameters
    ----------
    artifacts, folder, cache_bytes
        As ``open_store``.
    """

    def __init__(self, artifacts: "ArtifactStore", folder: Path, cache_bytes: int = CACHE_BYTES) -> None:
        self._artifacts, self._folder, self._cache_bytes = artifacts, folder, cache_bytes
        self._held: LruCache[str, NgramStore] = LruCache(_HELD)

    def get(self, digest: str) -> NgramStore:
        """Return the store of a digest; raises what ``open_store`` raises."""
        return self._held.get_or_make(
            digest, lambda: open_store(self._artifacts, digest, self._folder, cache_bytes=self._cache_bytes)
        )
