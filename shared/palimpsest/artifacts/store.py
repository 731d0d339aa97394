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


class ArtifactStore:
    """Content-addressed artefacts; every method blocks, and may be called from any thread or process.

    Parameters
    ----------
    url
        fsspec URL, such as ``file:///var/lib/palimpsest/artifacts`` or ``s3://bucket/prefix``.
    client
        Redis, where references are kept.
    prefix
        Prefix of the Redis keys.
    local
        Local folder for bytes on their way to a store that is not a local disk.
    options
        fsspec storage options.
    max_bytes
        Largest artefact accepted.
    grace_seconds
        Age below which collect takes nothing, unless told otherwise.
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
        """The store an installation is set up with."""
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
        """Write an artefact piece by piece; see ArtifactWriter."""
        return ArtifactWriter(self._objects.staging, self._publish, media_type, self._max_bytes)

    def put_bytes(self, data: bytes, media_type: str = "") -> ArtifactInfo:
        """Store bytes."""
        with self.writer(media_type) as writer:
            writer.write(data)
            return writer.commit()

    def put_file(self, path: Path, media_type: str = "") -> ArtifactInfo:
        """Store a copy of a file, in memory for one chunk at a time."""
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
            # Even if the blob is there: a fresh copy heals one that has rotted unnoticed.
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

    # looking

    def find(self, digest: str) -> ArtifactInfo | None:
        """Look an artefact up; None if the store does not hold it, or holds it damaged."""
        try:
            with self._objects.open(meta_name(digest)) as file:
                data = file.read()
        except FileNotFoundError:
            return None
        try:
            return ArtifactInfo.from_json(data)
        except ValueError:
            # The bytes may still be good, and they are what counts.
            unknown = ArtifactInfo(digest, 0, DEFAULT_MEDIA_TYPE, datetime.now(UTC))
            with contextlib.suppress(DataLoss, NotFound):
                return StoredBlob(self._objects, unknown).examine()
            return None

    def stat(self, digest: str) -> ArtifactInfo:
        """Look an artefact up.

        Raises
        ------
        InvalidArgument
            DIGEST_INVALID.
        NotFound
            ARTIFACT_NOT_FOUND.
        DataLoss
            ARTIFACT_CORRUPT: it was found damaged and set aside.
        """
        info = self.find(digest)
        if info is not None:
            return info
        if self._objects.present([quarantine_name(digest)])[0]:
            raise corrupt(digest)
        raise not_found(digest)

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Which of these the store does not hold, in the order given."""
        names = [meta_name(digest) for digest in digests]
        return [d for d, held in zip(digests, self._objects.present(names), strict=True) if not held]

    def list(self, page_size: int = 0, page_token: str = "") -> tuple[list[ArtifactInfo], str]:
        """One page of artefacts, newest first, and the token of the next; empty after the last.

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

        The artefact is looked up at once; its bytes are read as they are asked for.

        Raises
        ------
        NotFound
            ARTIFACT_NOT_FOUND.
        OutOfRange
            OFFSET_PAST_END.
        DataLoss
            ARTIFACT_CORRUPT, at the latest in place of the last chunk.
        """
        info = self.stat(digest)
        if offset > info.size_bytes:
            message = f"{digest} has {info.size_bytes} bytes; there is nothing at {offset}."
            raise OutOfRange(Reason.OFFSET_PAST_END, message, metadata={"size_bytes": info.size_bytes})
        end = min(offset + limit, info.size_bytes) if limit else info.size_bytes
        blob = StoredBlob(self._objects, info)
        if offset == 0 and end == info.size_bytes:
            return read_whole(blob)
        return read_part(blob, offset, end)

    def open(self, digest: str) -> BinaryIO:
        """Open an artefact for reading forward; the end of the file is reached only if the digest is right."""
        return io.BufferedReader(ChunkFile(self.chunks(digest)), CHUNK_BYTES)

    def read_bytes(self, digest: str) -> bytes:
        """The whole of a small artefact."""
        return b"".join(self.chunks(digest))

    def local_file(self, digest: str) -> Path | None:
        """Where an artefact's bytes are a file of this machine, to be mapped and never written to; else None.

        Neither looked up nor verified: that is for the caller to do. Who has it open keeps it, deleted or not.
        """
        return self._objects.root / blob_name(digest) if isinstance(self._objects, DiskObjects) else None

    # removing

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
        """Delete artefacts that nothing refers to and stale uploads, if older than grace_seconds."""
        grace = self._grace_seconds if grace_seconds is None else grace_seconds
        collector = Collector(self._objects, self.references, self.uploads, self.find)
        return collector.run(grace, dry_run, progress or NullProgress())


def _read_page_token(token: str) -> tuple[float, str]:
    try:
        modified, name = json.loads(base64.urlsafe_b64decode(token))
        return float(modified), str(name)
    except (ValueError, TypeError):
        message = "This is not a page token of this method. Begin again without one."
        raise InvalidArgument.field(Reason.PAGE_TOKEN_INVALID, "page_token", message) from None
