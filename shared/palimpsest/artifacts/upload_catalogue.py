"""The resumable uploads of a store: a stream may break at any byte, and another one continues it."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from palimpsest.artifacts.digests import Hashes, hex_of
from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.artifacts.staging import check_size, full_disk
from palimpsest.artifacts.upload_session import (
    Find,
    UploadSession,
    UploadSpec,
    committed_size,
    lock_folder,
    result_of,
)
from palimpsest.catalogue import LOCAL
from palimpsest.errors import InvalidArgument, NotFound, Reason

_UPLOAD_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class WriteStatus:
    """The progress of an upload: durable bytes, and the artefact once it is finished."""

    committed_size: int
    artifact: ArtifactInfo | None


class UploadCatalogue:
    """The unfinished and recently finished uploads of a store.

    Parameters
    ----------
    folder
        Holds a folder for each upload.
    publish, find, renew
        Functions of the store: publish a finished file for a holder; look up an artefact; look it up, reset its age and
        make somebody a holder.
    max_bytes
        Maximum size of an artefact, in bytes.
    """

    def __init__(
        self,
        folder: Path,
        publish: Callable[..., ArtifactInfo],
        find: Find,
        renew: Callable[[str, str], ArtifactInfo | None],
        max_bytes: int,
    ) -> None:
        self._folder = folder
        self._publish = publish
        self._find = find
        self._renew = renew
        self._max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _upload_folder(self, upload_id: str, principal: str) -> Path:
        if not _UPLOAD_ID.fullmatch(upload_id):
            message = (
                f"{upload_id[:100]!r} is not an upload id. Use 1 to 64 letters, digits, '.', '_' and '-', starting "
                "with a letter or digit."
            )
            raise InvalidArgument.field(Reason.INVALID_REQUEST, "upload_id", message)
        # Hashed with the principal, so callers who choose the same id do not share an upload.
        return self._folder / hashlib.sha256(f"{principal}\0{upload_id}".encode()).hexdigest()

    def open(
        self,
        upload_id: str,
        spec: UploadSpec,
        principal: str = LOCAL,
        sees: Callable[[str], bool] = lambda digest: True,
    ) -> "UploadSession":
        """Start or resume an upload; the caller closes the session.

        Parameters
        ----------
        upload_id, spec
            From the sender.
        principal
            The sender, who becomes a holder of the artefact.
        sees
            Whether the sender may know that the store has a digest; if not, all bytes have to be sent.

        Raises
        ------
        Aborted
            UPLOAD_BUSY: another stream is writing it.
        InvalidArgument
            UPLOAD_REUSED: it was started with another digest, size or media type.
        ResourceExhausted
            ARTIFACT_TOO_LARGE or STORE_FULL.
        """
        check_size(spec.size_bytes, self._max_bytes)
        if spec.digest:
            hex_of(spec.digest)
        with full_disk():
            folder = self._upload_folder(upload_id, principal)

            def publish(staged: Path, hashes: Hashes, media_type: str) -> ArtifactInfo:
                return self._publish(staged, hashes, media_type, principal)

            def renew(digest: str) -> ArtifactInfo | None:
                return self._renew(digest, principal) if sees(digest) else None

            return UploadSession(folder, spec, publish, renew, self._max_bytes)

    def status(self, upload_id: str, principal: str = LOCAL, find: Find | None = None) -> WriteStatus:
        """Look up the progress of an upload.

        Parameters
        ----------
        upload_id, principal
            As for :meth:`open`.
        find
            Looks up the artefact for the sender; None: the store's own.

        Raises
        ------
        NotFound
            UPLOAD_NOT_FOUND: it was never started, or expired.
        """
        folder = self._upload_folder(upload_id, principal)
        digest = result_of(folder)
        artifact = (find or self._find)(digest) if digest else None
        if artifact is not None:
            return WriteStatus(artifact.size_bytes, artifact)
        if not (folder / "open.json").exists():
            message = f"There is no upload {upload_id!r}: it was never started, or has expired. Start from offset 0."
            raise NotFound(Reason.UPLOAD_NOT_FOUND, message)
        return WriteStatus(committed_size(folder), None)

    def expire(self, older_than: float, dry_run: bool = False) -> int:
        """Delete uploads not written since older_than (seconds since 1970); return the bytes freed."""
        freed = 0
        for folder in self._folder.iterdir():
            try:
                files = [file.stat() for file in folder.iterdir()]
            except FileNotFoundError:  # its stream renamed a file, or another collection deleted it
                continue
            if any(status.st_mtime >= older_than for status in files):
                continue
            size = sum(status.st_size for status in files)
            if dry_run:
                freed += size
                continue
            lock = lock_folder(folder)
            if lock is not None:
                shutil.rmtree(folder)
                os.close(lock)
                freed += size
        return freed
