"""Resumable uploads: a stream may break at any byte, and the next one goes on where the disk says."""

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from palimpsest.artifacts.digests import hex_of
from palimpsest.artifacts.info import ArtifactInfo
from palimpsest.artifacts.staging import Publish, check_size, full_disk
from palimpsest.artifacts.upload_session import (
    Find,
    UploadSession,
    UploadSpec,
    committed_size,
    lock_folder,
    result_of,
)
from palimpsest.errors import InvalidArgument, NotFound, Reason

_UPLOAD_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class WriteStatus:
    """How far an upload has come: bytes on the disk, and the artefact once it is finished."""

    committed_size: int
    artifact: ArtifactInfo | None


class UploadCatalogue:
    """All unfinished and lately finished uploads of a store.

    Parameters
    ----------
    folder
        Where they are kept.
    publish, find, renew
        The store's: move a finished file in; look an artefact up; the same, and count its age from now.
    max_bytes
        Largest artefact accepted.
    """

    def __init__(self, folder: Path, publish: Publish, find: Find, renew: Find, max_bytes: int) -> None:
        self._folder = folder
        self._publish = publish
        self._find = find
        self._renew = renew
        self._max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _place(self, upload_id: str, principal: str) -> Path:
        if not _UPLOAD_ID.fullmatch(upload_id):
            message = (
                "An upload id is 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit."
            )
            raise InvalidArgument.field(Reason.INVALID_REQUEST, "upload_id", message)
        # Hashed, so that callers cannot see or disturb each other's uploads by choosing the same id.
        return self._folder / hashlib.sha256(f"{principal}\0{upload_id}".encode()).hexdigest()

    def open(self, upload_id: str, announced: UploadSpec, principal: str = "local") -> "UploadSession":
        """Begin an upload, or go on with one; close it whatever happens.

        Raises
        ------
        Aborted
            UPLOAD_BUSY: another stream is writing it.
        InvalidArgument
            UPLOAD_REUSED: it was begun with another digest, size or media type.
        ResourceExhausted
            ARTIFACT_TOO_LARGE or STORE_FULL.
        """
        check_size(announced.size_bytes, self._max_bytes)
        if announced.digest:
            hex_of(announced.digest)
        with full_disk():
            place = self._place(upload_id, principal)
            return UploadSession(place, announced, self._publish, self._renew, self._max_bytes)

    def status(self, upload_id: str, principal: str = "local") -> WriteStatus:
        """How far an upload has come.

        Raises
        ------
        NotFound
            UPLOAD_NOT_FOUND: never begun, or expired.
        """
        place = self._place(upload_id, principal)
        digest = result_of(place)
        artifact = self._find(digest) if digest else None
        if artifact is not None:
            return WriteStatus(artifact.size_bytes, artifact)
        if not (place / "open.json").exists():
            message = (
                f"There is no upload {upload_id!r}: it was never begun, or it expired. Begin it again from 0."
            )
            raise NotFound(Reason.UPLOAD_NOT_FOUND, message)
        return WriteStatus(committed_size(place), None)

    def expire(self, older_than: float, dry_run: bool = False) -> int:
        """Drop uploads untouched since older_than (seconds since 1970); return the bytes freed."""
        freed = 0
        for place in self._folder.iterdir():
            try:
                files = [file.stat() for file in place.iterdir()]
            except FileNotFoundError:  # its stream renamed a file, or another sweep took it
                continue
            if any(status.st_mtime >= older_than for status in files):
                continue
            size = sum(status.st_size for status in files)
            if dry_run:
                freed += size
                continue
            lock = lock_folder(place)
            if lock is not None:
                shutil.rmtree(place)
                os.close(lock)
                freed += size
        return freed
