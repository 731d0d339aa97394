"""The artefact store: immutable bytes named by their SHA-256 digest, on a disk or behind any fsspec URL."""

import base64
import contextlib
import dataclasses
import io
import json
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import redis

from palimpsest import json_input
from palimpsest.artifacts.digests import CHUNK_BYTES, Hashes
from palimpsest.artifacts.garbage import Collector, GarbageReport, stored_whole
from palimpsest.artifacts.info import DEFAULT_MEDIA_TYPE, ArtifactInfo
from palimpsest.artifacts.layout import blob_name, digest_at, meta_name, quarantine_name, record, remove
from palimpsest.artifacts.objects import DiskObjects, Objects, open_objects
from palimpsest.artifacts.reading import ChunkFile, StoredBlob, corrupt, not_found, read_part, read_whole
from palimpsest.artifacts.references import References
from palimpsest.artifacts.staging import ArtifactWriter, full_disk
from palimpsest.artifacts.upload_catalogue import UploadCatalogue
from palimpsest.errors import DataLoss, InvalidArgument, NotFound, OutOfRange, Reason
from palimpsest.progress import NullProgress, Progress
from palimpsest.settings import Settings

_PAGE_SIZE, _MOST_PER_PAGE = 100, 1000
_LONGEST_TOKEN = 1 << 10


class ArtifactStore:
    """Content-addressed artefacts. Methods block, and may be called from any thread or process.

    Parameters
    ----------
    url
        fsspec URL, such as ``file:///var/lib/palimpsest/artifacts`` or ``s3://bucket/prefix``.
    client
        Redis client, for references.
    prefix
        Prefix of the Redis keys.
    local
        Local folder for staging and uploads, if the store is not a local disk.
    options
        fsspec storage options.
    max_bytes
        Maximum size of an artefact, in bytes.
    grace_seconds
        Default minimum age of artefacts that ``collect`` deletes.
    """

    def __init__(
        self,
        url: str,
        client: redis.Redis,
        *,
        prefix: str,
        local: Path,
        options: Mapping[str, object] | None = None,
        max_bytes: int = 64 << 30,
        grace_seconds: float = 24 * 3600,
    ) -> None:
        self._objects: Objects = open_objects(url, options or {}, local / "staging")
        self._max_bytes = max_bytes
        self._grace_seconds = grace_seconds
        self.references = References(client, prefix)
        folder = self._objects.staging.parent / "uploads"
        self.uploads = UploadCatalogue(folder, self._publish, self.find, self._renew, max_bytes)

    @classmethod
    def from_settings(cls, settings: Settings, client: redis.Redis) -> "ArtifactStore":
        """Open the store of an installation."""
        return cls(
            settings.artifact_url,
            client,
            prefix=settings.redis_prefix,
            local=settings.state_dir / "artifact-staging",
            options=settings.artifact_options,
            max_bytes=settings.artifact_max_bytes,
            grace_seconds=settings.artifact_grace_seconds,
        )

    # writing

    def writer(self, media_type: str = "") -> ArtifactWriter:
        """Write an artefact incrementally; see ``ArtifactWriter``."""
        return ArtifactWriter(self._objects.staging, self._publish, media_type, self._max_bytes)

    def put_bytes(self, data: bytes, media_type: str = "") -> ArtifactInfo:
        """Store bytes."""
        with self.writer(media_type) as writer:
            writer.write(data)
            return writer.commit()

    def put_file(self, path: Path, media_type: str = "") -> ArtifactInfo:
        """Store a copy of a file, reading one chunk at a time."""
        with self.writer(media_type) as writer, path.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                writer.write(data)
            return writer.commit()

    def _publish(self, staged: Path, hashes: Hashes, media_type: str) -> ArtifactInfo:
        digest = hashes.digest
        with stored_whole(self._objects, self.references, self.find, digest):
            earlier = self.find(digest)
            media_type = media_type or (earlier.media_type if earlier else DEFAULT_MEDIA_TYPE)
            info = ArtifactInfo(digest, hashes.size_bytes, media_type, datetime.now(UTC))
            # Published even if the blob exists: a fresh copy repairs one that was damaged unnoticed.
            self._objects.publish(staged, blob_name(digest))
            record(self._objects, info, hashes)
        return info

    def _renew(self, digest: str) -> ArtifactInfo | None:
        with self.references.written(digest):
            info = self.find(digest)
            if info is not None:
                info = dataclasses.replace(info, create_time=datetime.now(UTC))
                with full_disk():
                    self._objects.write(meta_name(digest), info.to_json())
        return info

    # look-ups

    def find(self, digest: str) -> ArtifactInfo | None:
        """Look up an artefact; None if the store does not have it, or it is damaged."""
        try:
            with self._objects.open(meta_name(digest)) as file:
                data = file.read()
        except FileNotFoundError:
            return None
        try:
            return ArtifactInfo.from_json(data)
        except ValueError:
            # Only the sidecar is damaged; the bytes may be intact.
            unknown = ArtifactInfo(digest, 0, DEFAULT_MEDIA_TYPE, datetime.now(UTC))
            with contextlib.suppress(DataLoss, NotFound):
                return StoredBlob(self._objects, unknown).examine()
            return None

    def stat(self, digest: str) -> ArtifactInfo:
        """Look up an artefact.

        Raises
        ------
        InvalidArgument
            DIGEST_INVALID.
        NotFound
            ARTIFACT_NOT_FOUND.
        DataLoss
            ARTIFACT_CORRUPT: it was found damaged, and quarantined.
        """
        info = self.find(digest)
        if info is not None:
            return info
        if self._objects.present([quarantine_name(digest)])[0]:
            raise corrupt(digest)
        raise not_found(digest)

    def missing(self, digests: Sequence[str]) -> list[str]:
        """The digests that the store does not have, in the order given."""
        names = [meta_name(digest) for digest in digests]
        return [d for d, present in zip(digests, self._objects.present(names), strict=True) if not present]

    def list(self, page_size: int = 0, page_token: str = "") -> tuple[list[ArtifactInfo], str]:
        """One page of artefacts, newest first, and the token of the next page; empty after the last.

        Raises
        ------
        InvalidArgument
            PAGE_TOKEN_INVALID.
        """
        size = min(page_size, _MOST_PER_PAGE) if page_size else _PAGE_SIZE
        rows = sorted((-found.modified, found.name) for found in self._objects.find("meta"))
        if page_token:
            after = _read_page_token(page_token)
            rows = [row for row in rows if row > after]
        page = rows[:size]
        infos = [self.find(digest_at(name)) for _, name in page]
        token = base64.urlsafe_b64encode(json.dumps(page[-1]).encode()).decode() if len(rows) > size else ""
        return [info for info in infos if info is not None], token

    # reading

    def chunks(self, digest: str, offset: int = 0, limit: int = 0) -> Generator[bytes]:
        """Read an artefact, or limit bytes of it from offset, in verified chunks of at most 1 MiB.

        The artefact is looked up at once; its bytes are read as the generator is consumed.

        Raises
        ------
        NotFound
            ARTIFACT_NOT_FOUND.
        OutOfRange
            OFFSET_PAST_END.
        DataLoss
            ARTIFACT_CORRUPT, at the latest instead of the last chunk.
        """
        info = self.stat(digest)
        if offset > info.size_bytes:
            message = f"Offset {offset} is past the end: {digest} has {info.size_bytes} bytes."
            raise OutOfRange(Reason.OFFSET_PAST_END, message, metadata={"size_bytes": info.size_bytes})
        end = min(offset + limit, info.size_bytes) if limit else info.size_bytes
        blob = StoredBlob(self._objects, info)
        if offset == 0 and end == info.size_bytes:
            return read_whole(blob)
        return read_part(blob, offset, end)

    def open(self, digest: str) -> BinaryIO:
        """Open an artefact as a forward-only file; reading reaches its end only if the digest is verified."""
        return io.BufferedReader(ChunkFile(self.chunks(digest)), CHUNK_BYTES)

    def read_bytes(self, digest: str) -> bytes:
        """Read a small artefact as a whole."""
        return b"".join(self.chunks(digest))

    def local_file(self, digest: str) -> Path | None:
        """Path of an artefact's bytes, for mapping read-only; None if the store is not a local disk.

        The artefact is neither looked up nor verified. A process that has the file open can read it even after the
        artefact is deleted.
        """
        return self._objects.root / blob_name(digest) if isinstance(self._objects, DiskObjects) else None

    # deletion

    def delete(self, digest: str) -> None:
        """Delete an artefact that nothing refers to.

        Raises
        ------
        NotFound
            ARTIFACT_NOT_FOUND.
        FailedPrecondition
            ARTIFACT_IN_USE; metadata names the owners.
        """
        self.stat(digest)
        with self.references.collected(digest):
            remove(self._objects, digest)

    def collect(
        self, grace_seconds: float | None = None, dry_run: bool = False, progress: Progress | None = None
    ) -> GarbageReport:
        """Delete unreferenced artefacts and abandoned uploads that are older than grace_seconds."""
        grace = self._grace_seconds if grace_seconds is None else grace_seconds
        collector = Collector(self._objects, self.references, self.uploads, self.find)
        return collector.run(grace, dry_run, progress or NullProgress())


def _read_page_token(token: str) -> tuple[float, str]:
    try:  # not strictly: the age of an artefact may be unknown, which is infinity
        data = base64.b64decode(token, altchars=b"-_", validate=True)
        modified, name = json_input.decode(data, max_bytes=_LONGEST_TOKEN, strict=False)
        if not isinstance(modified, int | float) or not modified <= 0 or not isinstance(name, str):
            raise ValueError
        return float(modified), name
    except (ValueError, TypeError):
        message = "This is not a page token of ListArtifacts. Begin again without one."
        raise InvalidArgument.field(Reason.PAGE_TOKEN_INVALID, "page_token", message) from None
