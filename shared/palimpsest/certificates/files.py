"""Small files that are durable once written: synced, with their folder, before the call returns."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from palimpsest.disk import replace_file, sync, write_partial


def make_private(folder: Path) -> None:
    """Create a folder, and those above it that are missing, with mode 0700; what exists is left as it is."""
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is created if it is missing; the kernel lets go if this process dies."""
    make_private(folder)
    with open(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600), "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_new(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file that must not exist yet: whole or not at all, and of two writers the first one's.

    Raises
    ------
    FileExistsError
        The file exists.
    """
    partial = write_partial(path, data, durable=True, mode=mode)
    try:
        os.link(partial, path)  # unlike a rename it refuses an existing file
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def replace(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file atomically and durably, for its owner alone."""
    replace_file(path, data, durable=True, mode=mode)


def append(path: Path, line: bytes) -> None:
    """Add a line to a file, in one write; the file is created with mode 0644."""
    with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), "wb", buffering=0) as file:
        file.write(line)
        os.fsync(file.fileno())
    sync(path.parent)
