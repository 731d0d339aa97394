"""A small file system in memory that tests fill to the last page."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = os.sysconf("SC_PAGE_SIZE")


class SmallDisk:
    """A mounted file system.

    Files whose last page is not full can still grow into it, whatever ``fill`` leaves.

    Attributes
    ----------
    root
        Where it is mounted.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / ".ballast"

    @property
    def free(self) -> int:
        """Bytes that are free, in whole pages."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def fill(self, left: int = 0) -> None:
        """Take all space but for so many bytes; whoever writes meanwhile has less."""
        taken = 0
        with self._ballast.open("wb", buffering=0) as file:
            while (more := self.free - left) > 0:
                with contextlib.suppress(OSError):  # somebody was faster
                    os.posix_fallocate(file.fileno(), taken, more)
                    taken += more

    def empty(self) -> None:
        """Give the space back."""
        self._ballast.unlink()

    def content(self) -> set[Path]:
        """Every file but the ballast."""
        return {path for path in self.root.rglob("*") if path.is_file() and path != self._ballast}


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[SmallDisk]:
    """Mount a file system on a new folder; skip the test where this user may not."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root, with the right to mount, can make a small disk to fill")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
