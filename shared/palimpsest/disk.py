"""A full disk: how it is told from other failures, and what it means to a caller."""

import contextlib
import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from palimpsest.errors import PalimpsestError, Reason, ResourceExhausted

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TOLD = tuple(f"(os error {code})" for code in sorted(_FULL))
"""How libraries written in Rust (safetensors, tokenizers) end the message of an error that is no OSError."""
RETRY_SECONDS = 30.0
_DELETED = ".deleted-"
"""How the name of a folder begins that is being deleted."""


def is_full(error: BaseException) -> bool:
    """Return whether a disk without room, or a quota at its end, is behind an error."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, PalimpsestError):
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        if any(told in str(seen) for told in _TOLD):
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False


def disk_full(what: str, reason: Reason = Reason.DISK_FULL) -> ResourceExhausted:
    """Build the error for a disk that has no room for something.

    Parameters
    ----------
    what
        What was not written, such as "the audit log in /var/lib/palimpsest".
    reason
        DISK_FULL, or a more special one.
    """
    return ResourceExhausted(
        reason,
        f"The disk has no room for {what}. Please free space on it, then try again: delete artefacts or corpora that "
        "are not needed and collect garbage, or remove other files. Nothing has to be restarted.",
        retry_after=RETRY_SECONDS,
    )


@contextlib.contextmanager
def room_for(what: str, reason: Reason = Reason.DISK_FULL) -> Iterator[None]:
    """Raise ResourceExhausted where the block meets a full disk; see ``disk_full``."""
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise disk_full(what, reason) from error


def replace_file(path: Path, data: bytes | str, *, durable: bool = False, mode: int = 0o666) -> None:
    """Replace a small file atomically; where that fails the old one stays, and nothing is left beside it.

    Parameters
    ----------
    path
        The file; its folder exists.
    data
        A text is written in UTF-8.
    durable
        The file and its folder are synced: after a crash of the machine it has either the old bytes or the new ones.
        Otherwise only for what such a crash may take.
    mode
        Of the new file, less the process's mask.
    """
    partial = write_partial(path, data, durable=durable, mode=mode)
    try:
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        sync(path.parent)


def write_partial(path: Path, data: bytes | str, *, durable: bool = False, mode: int = 0o666) -> Path:
    """Write a file beside the one that it is to become, and return its path; nothing is left where that fails.

    A process that is killed leaves it behind, as ``.<name>.<random>.partial``.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return partial


def delete_tree(folder: Path) -> None:
    """Delete a folder with all that is in it, if it is there: from the first moment on nothing has its name.

    Whoever makes a folder of that name meanwhile keeps it. What cannot be deleted is left beside it, for
    ``finish_deletions``.
    """
    doomed = folder.with_name(f"{_DELETED}{uuid.uuid4().hex}")
    try:
        folder.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def finish_deletions(folder: Path) -> None:
    """Delete what is left in a folder of those that were being deleted when a process died."""
    for doomed in folder.glob(f"{_DELETED}*"):
        shutil.rmtree(doomed, ignore_errors=True)


def untouched_seconds(folder: Path) -> float:
    """Seconds since anything in a folder was changed; 0 for one that is gone, or being deleted."""
    try:
        changed = max(each.stat().st_mtime for each in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        return 0.0
    return time.time() - changed


def sync_tree(folder: Path) -> None:
    """Have the disk take a folder's files, and the folder, so that a crash of the machine does not."""
    for file in folder.iterdir():
        sync(file)
    sync(folder)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the disk take a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
