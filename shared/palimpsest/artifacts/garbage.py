"""Garbage collection: what is old and needed by nobody goes; what anybody needs stays, whatever happens meanwhile."""

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
"""A writer silent for this long is dead, however short the grace time."""


@dataclass(frozen=True)
class GarbageReport:
    """What a collection did, or would do: artefacts deleted and kept, and all bytes freed."""

    deleted: int
    freed_bytes: int
    kept: int


class Collector:
    """One sweep over a store.

    An artefact is taken if its age is past the limit and, at the moment it is marked for deletion, nothing refers
    to it; from then on references are refused until it is gone. Its age is read again after marking, since it
    may have been stored anew. Several sweeps at once are safe, and a sweep that dies leaves nothing half-there:
    the sidecar goes first, and blobs without one are collected by their own age.
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
        """Sweep once.

        Parameters
        ----------
        grace_seconds
            Age below which nothing is taken.
        dry_run
            Count, and delete nothing.
        progress
            Told how far the sweep is, and asked whether to stop.
        """
        now = time.time()
        cutoff = now - grace_seconds
        self._references.sweep(now - max(grace_seconds, _LONGEST_WRITE_SECONDS))
        # Blobs before sidecars: a blob seen here whose sidecar is not seen below had none then.
        sizes: dict[str, int] = {}
        blobs = [*self._objects.find("blobs"), *self._objects.find("pieces")]
        for found in blobs:
            digest = digest_at(found.name)
            sizes[digest] = sizes.get(digest, 0) + found.size_bytes
        artifacts = {digest_at(found.name): found for found in self._objects.find("meta")}

        deleted = kept = freed = 0
        for done, (digest, found) in enumerate(artifacts.items()):
            progress.step(done, len(artifacts), "collecting")
            if found.modified < cutoff and self._take(digest, cutoff, dry_run):
                deleted += 1
                freed += sizes.get(digest, 0)
            else:
                kept += 1
        orphans = {digest_at(f.name) for f in blobs if f.modified < cutoff} - artifacts.keys()
        freed += sum(sizes[digest] for digest in sorted(orphans) if self._take(digest, cutoff, dry_run))
        freed += self._drop_damaged(cutoff, dry_run)
        freed += self._drop_unfinished(min(cutoff, now - _LONGEST_WRITE_SECONDS), dry_run)
        freed += self._uploads.expire(cutoff, dry_run)
        return GarbageReport(deleted, freed, kept)

    def _take(self, digest: str, cutoff: float, dry_run: bool) -> bool:
        if dry_run:
            return not self._references.owners(digest)
        try:
            with self._references.collected(digest):
                info = self._find(digest)
                if info is not None and info.create_time.timestamp() >= cutoff:
                    return False
                remove(self._objects, digest)
        except FailedPrecondition:
            return False
        return True

    def _drop_damaged(self, cutoff: float, dry_run: bool) -> int:
        old = [found for found in self._objects.find("quarantine") if found.modified < cutoff]
        if not dry_run:
            for found in old:
                self._objects.remove(found.name)
        return sum(found.size_bytes for found in old)

    def _drop_unfinished(self, cutoff: float, dry_run: bool) -> int:
        """Delete files of writers that died; return the bytes freed."""
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
    """Keep the collector off a digest while it is being stored; take away its bytes if its sidecar does not follow.

    A full disk needs their room now. Where anybody else refers to the digest, the next collection judges it.
    """
    try:
        with references.written(digest):
            yield
    except OSError:
        with contextlib.suppress(PalimpsestError), references.collected(digest):
            if find(digest) is None:
                remove(objects, digest)
        raise
