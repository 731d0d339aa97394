"""The storage back ends: named objects on a disk or behind an fsspec URL, replaced atomically."""

import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import fsspec
import fsspec.core

_REMOTE_BLOCK_BYTES = 8 << 20
_REMOTE_LOOKUPS_AT_ONCE = 16


class StoredObject(NamedTuple):
    """One object of a listing; modified is in seconds since 1970."""

    name: str
    size_bytes: int
    modified: float


class DiskObjects:
    """Objects on a local file system. Changes are durable when a call returns: fsync, rename, fsync of the folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staging = root / "staging"
        self.staging.mkdir(parents=True, exist_ok=True, mode=0o700)

    def publish(self, staged: Path, name: str) -> None:
        """Move a complete local file to a name atomically."""
        target = self.root / name
        sync(staged)
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            sync(target.parent.parent)
        staged.replace(target)
        sync(target.parent)

    def write(self, name: str, data: bytes) -> None:
        """Write a small object atomically."""
        staged = self.staging / uuid.uuid4().hex
        try:
            staged.write_bytes(data)
            self.publish(staged, name)
        finally:
            staged.unlink(missing_ok=True)

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading; raises FileNotFoundError if there is none."""
        return (self.root / name).open("rb")

    def move(self, name: str, target: str) -> bool:
        """Rename an object and reset its age; False if it does not exist."""
        destination = self.root / target
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            (self.root / name).replace(destination)
        except FileNotFoundError:
            return False
        os.utime(destination)
        return True

    def remove(self, name: str) -> None:
        """Delete an object, if it exists."""
        (self.root / name).unlink(missing_ok=True)

    def present(self, names: Iterable[str]) -> list[bool]:
        """Whether each of these objects exists."""
        return [(self.root / name).is_file() for name in names]

    def find(self, folder: str) -> list[StoredObject]:
        """List all objects under a folder."""
        found = []
        for path in (self.root / folder).rglob("*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if path.is_file():
                found.append(StoredObject(str(path.relative_to(self.root)), status.st_size, status.st_mtime))
        return found


class RemoteObjects:
    """Objects behind an fsspec URL such as ``s3://bucket/prefix``.

    Such stores cannot rename: a file is completed locally and then sent as a whole. The sidecar, which is written
    last, makes the artefact exist.
    """

    def __init__(self, url: str, options: Mapping[str, object], staging: Path) -> None:
        self._fs, root = fsspec.core.url_to_fs(url, **{"use_listings_cache": False, **options})
        self._root = root.rstrip("/")
        self._folders: set[str] = set()
        self.staging = staging
        self.staging.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _make_folder(self, name: str) -> None:
        """Create an object's folder once per process: object stores have no folders, but each call is a request."""
        folder = self._path(name).rpartition("/")[0]
        if folder not in self._folders:
            self._fs.makedirs(folder, exist_ok=True)
            self._folders.add(folder)

    def publish(self, staged: Path, name: str) -> None:
        """Send a complete local file to a name atomically, and delete it."""
        self._make_folder(name)
        self._fs.put_file(str(staged), self._path(name))
        staged.unlink()

    def write(self, name: str, data: bytes) -> None:
        """Write a small object atomically."""
        self._make_folder(name)
        self._fs.pipe_file(self._path(name), data)

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading; raises FileNotFoundError if there is none."""
        return cast(BinaryIO, self._fs.open(self._path(name), "rb", block_size=_REMOTE_BLOCK_BYTES))

    def move(self, name: str, target: str) -> bool:
        """Copy an object to another name and delete the original; False if it does not exist."""
        self._make_folder(target)
        try:
            with (
                self._fs.open(self._path(name), "rb") as source,
                self._fs.open(self._path(target), "wb") as copy,
            ):
                shutil.copyfileobj(source, copy, _REMOTE_BLOCK_BYTES)
        except FileNotFoundError:
            return False
        self.remove(name)
        return True

    def remove(self, name: str) -> None:
        """Delete an object, if it exists."""
        try:
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            return

    def present(self, names: Iterable[str]) -> list[bool]:
        """Whether each of these objects exists."""
        with ThreadPoolExecutor(_REMOTE_LOOKUPS_AT_ONCE) as pool:
            return list(pool.map(lambda name: bool(self._fs.exists(self._path(name))), names))

    def find(self, folder: str) -> list[StoredObject]:
        """List all objects under a folder."""
        listing = self._fs.find(self._path(folder), detail=True)
        return [
            StoredObject(path.removeprefix(f"{self._root}/"), int(entry["size"]), _modified(entry))
            for path, entry in cast(dict, listing).items()
        ]


Objects = DiskObjects | RemoteObjects
"""Objects by name. Names are relative, separated by ``/``, and chosen by the store."""


def open_objects(url: str, options: Mapping[str, object], staging: Path) -> Objects:
    """Open the objects at an fsspec URL; staging is a local folder, used by stores that are not a local disk."""
    if fsspec.core.split_protocol(url)[0] in ("file", "local", None):
        return DiskObjects(Path(fsspec.core.url_to_fs(url)[1]))
    return RemoteObjects(url, options, staging)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _modified(entry: Mapping[str, object]) -> float:
    """Modification time in seconds since 1970; file systems list it under different keys."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = entry.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            return datetime.fromisoformat(value).timestamp()
    # The age is unknown, so the object is never old enough to be collected.
    return float("inf")
