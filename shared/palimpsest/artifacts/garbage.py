"""Garbage collection: old artefacts without references are deleted, safely beside writers and other collections."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.artifacts.layout import digest_at, remove
from palimpsest.artifacts.objects import Objects
from palimpsest.artifacts.references import References
from palimpsest.artifacts.upload_catalogue import UploadCatalogue
from palimpsest.errors import FailedPrecondition, PalimpsestError
from palimpsest.progress import Progress

_LONGEST_WRITE_SECONDS = 24 * 3600
"""A writer that has been inactive for this many seconds is dead, however short the grace time."""


@dataclass(frozen=True)
class GarbageReport:
    """The result of a collection, or of a dry run: artefacts deleted and kept, and bytes freed."""

    deleted: int
    freed_bytes: int
    kept: int


class Collector:
    """One garbage collection of a store.

    An artefact is deleted if it is older than the limit and nothing refers to it when it is marked for deletion; from
    then on new references are refused until it is deleted. Its age is read again after marking, because it may have
    been stored again. Collections may run at the same time. A collection that dies leaves nothing half-deleted: the
    sidecar is deleted first, and blobs without a sidecar are collected by their own age.
    """

    def __init__(
        self,
        objects: Objects,
        references: References,
        uploads: UploadCatalogue,
        find: Callable[[str], ArtifactInfo | None],
    ) -> None:
        self._objects = objects
        self._references = references
        self._uploads = uploads
        self._find = find

    def run(self, grace_seconds: float, dry_run: bool, progress: Progress) -> GarbageReport:
        """Collect once.

        Parameters
        ----------
        grace_seconds
            Minimum age of what is deleted.
        dry_run
            Count only, delete nothing.
        progress
            Reports artefacts, and cancels the collection.
        """
        now = time.time()
        cutoff = now - grace_seconds
        self._references.sweep(now - max(grace_seconds, _LONGEST_WRITE_SECONDS))
        # Blobs are listed before sidecars: a blob whose sidecar is not listed below had none when it was listed.
        sizes: dict[str, int] = {}
        blobs = [*self._objects.find("blobs"), *self._objects.find("pieces")]
        for found in blobs:
            digest = digest_at(found.name)
            sizes[digest] = sizes.get(digest, 0) + found.size_bytes
        artifacts = {digest_at(found.name): found for found in self._objects.find("meta")}

        deleted = kept = freed = 0
        for done, (digest, found) in enumerate(artifacts.items()):
            progress.step(done, len(artifacts), "collecting")
            if found.modified < cutoff and self._delete(digest, cutoff, dry_run):
                deleted += 1
                freed += sizes.get(digest, 0)
            else:
                kept += 1
        orphans = {digest_at(f.name) for f in blobs if f.modified < cutoff} - artifacts.keys()
        freed += sum(sizes[digest] for digest in sorted(orphans) if self._delete(digest, cutoff, dry_run))
        freed += self._delete_quarantined(cutoff, dry_run)
        freed += self._delete_unfinished(min(cutoff, now - _LONGEST_WRITE_SECONDS), dry_run)
        freed += self._uploads.expire(cutoff, dry_run)
        return GarbageReport(deleted, freed, kept)

    def _delete(self, digest: str, cutoff: float, dry_run: bool) -> bool:
        """Delete an artefact unless something refers to it; returns whether it was (or would be) deleted."""
        if dry_run:
            return not self._references.owners(digest)
        try:
            with self._references.collected(digest):
                info = self._find(digest)
                if info is not None and info.create_time.timestamp() >= cutoff:
                    return False
                remove(self._objects, digest)
                self._references.holders.forget(digest)
        except FailedPrecondition:
            return False
        return True

    def _delete_quarantined(self, cutoff: float, dry_run: bool) -> int:
        """Delete old damaged blobs; return the bytes freed."""
        old = [found for found in self._objects.find("quarantine") if found.modified < cutoff]
        if not dry_run:
            for found in old:
                self._objects.remove(found.name)
                digest = digest_at(found.name)
                with contextlib.suppress(FailedPrecondition), self._references.collected(digest):
                    if self._find(digest) is None:
                        self._references.holders.forget(digest)
        return sum(found.size_bytes for found in old)

    def _delete_unfinished(self, cutoff: float, dry_run: bool) -> int:
        """Delete the files of dead writers; return the bytes freed."""
        freed = 0
        for path in self._objects.staging.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if status.st_mtime < cutoff:
                freed += status.st_size
                if not dry_run:
                    path.unlink(missing_ok=True)
        return freed


@contextlib.contextmanager
def stored_whole(
    objects: Objects,
    references: References,
    find: Callable[[str], ArtifactInfo | None],
    digest: str,
) -> Iterator[None]:
    """Protect a digest from collection while it is being stored; delete its blob if storing fails before the sidecar.

    A full disk needs the space at once. If something else refers to the digest, the next collection decides.
    """
    try:
        with references.written(digest):
            yield
    except OSError:
        with contextlib.suppress(PalimpsestError), references.collected(digest):
            if find(digest) is None:
                remove(objects, digest)
        raise
