"""Proof of absence: folders and Redis searched, byte by byte, for texts that a removal should have removed.

What is found is told by place, offset and form; no result repeats a text. What could not be read is told as well, for
then absence is not proven.
"""

import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from palimpsest.progress import NullProgress, Progress
from services.unlearning.patterns import Secrets
from services.unlearning.unpacking import Packed, read_blocks, unpacked

MOST_FOUND = 1000
"""Occurrences that are told; all are counted."""


@dataclass(frozen=True)
class Occurrence:
    """One secret in one form in one place; further ones of the same kind there are not told.

    Attributes
    ----------
    place
        The file, or key. A name that itself holds a secret is given by its SHA-256.
    offset
        Bytes from the beginning of the file or value; 0 in a name.
    secret
        Which one, by number.
    form
        Such as ``base64, alignment 1``.
    """

    place: str
    offset: int
    secret: int
    form: str


@dataclass(frozen=True)
class Findings:
    """The result of a search, fit to be kept as evidence: it holds no text.

    Attributes
    ----------
    found
        At most 1000 occurrences; ``found_count`` is how many there are.
    unread
        Places that could not be searched, and why.
    places
        Number of files, or of keys, that were searched.
    bytes
        Number of bytes that were searched.
    """

    found: tuple[Occurrence, ...]
    found_count: int
    unread: tuple[str, ...]
    places: int
    bytes: int

    @property
    def absent(self) -> bool:
        """Whether everything was read and nothing found."""
        return not self.found_count and not self.unread


class Search:
    """One search for some secrets; feed it with places, then ask for ``findings``."""

    def __init__(self, secrets: Secrets, progress: Progress | None = None) -> None:
        self.secrets = secrets
        self.progress = progress or NullProgress()
        self._found: list[Occurrence] = []
        self._unread: list[str] = []
        self._found_count = self._places = self._bytes = 0

    def findings(self) -> Findings:
        """Return what was found so far."""
        return Findings(tuple(self._found), self._found_count, tuple(self._unread), self._places, self._bytes)

    def begin(self, name: bytes) -> str:
        """Begin a place: search its name, and return the name as it may be told."""
        self._places += 1
        if not self.secrets.within(name):
            return name.decode(errors="backslashreplace")
        shown = f"(name with SHA-256 {hashlib.sha256(name).hexdigest()})"
        self.blocks(shown, iter([name]))
        return shown

    def blocks(self, place: str, blocks: Iterator[bytes]) -> None:
        """Search bytes that come in blocks, across their borders as well."""
        seen: set[tuple[int, str]] = set()
        overlap = self.secrets.longest - 1
        before, start = b"", 0
        for block in blocks:
            self.progress.check()
            self._bytes += len(block)
            data = before + block
            for pattern in self.secrets.patterns:
                at = data.find(pattern.data)
                if at < 0 or (pattern.secret, pattern.form) in seen:
                    continue
                seen.add((pattern.secret, pattern.form))
                self._found_count += 1
                if len(self._found) < MOST_FOUND:
                    self._found.append(Occurrence(place, start + at, pattern.secret, pattern.form))
            before = data[-overlap:]
            start += len(data) - len(before)

    def unread(self, place: str, why: str) -> None:
        """Note a place that could not be searched."""
        self._unread.append(f"{place}: {why}")


def search_folder(
    folder: Path, secrets: Secrets, *, skip: Collection[Path] = (), progress: Progress | None = None
) -> Findings:
    """Search every file below a folder, with the names of files and folders and the targets of links.

    Files are read in blocks of 1 MiB. A file that is compressed as a whole, or a zip archive, is searched packed and
    unpacked, one level deep. Links are not followed. Files that vanish meanwhile are absent.

    Parameters
    ----------
    folder
        Where to search.
    secrets
        What to search for.
    skip
        Files and folders that are not searched, because another search covers them or they are meant to hold the text.
    progress
        Checked with each block; may raise to stop.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        There is no such folder: a mistyped path proves nothing.
    """
    search = Search(secrets, progress)
    skipped = {path.absolute() for path in skip}
    waiting = [folder.absolute()]
    while waiting:
        here = waiting.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            if here == folder.absolute():
                raise
            if not isinstance(error, FileNotFoundError):
                search.unread(search.begin(os.fsencode(here)), error.strerror or "cannot be read")
            continue
        for entry in entries:
            path = Path(entry.path)
            if path in skipped:
                continue
            # Only the name within the folder: what is above it is no store's.
            place = search.begin(os.fsencode(path.relative_to(folder.absolute())))
            try:
                _entry(search, path, place, waiting)
            except FileNotFoundError:
                continue
            except OSError as error:
                search.unread(place, error.strerror or "cannot be read")
    return search.findings()


def _entry(search: Search, path: Path, place: str, folders: list[Path]) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        folders.append(path)
    elif stat.S_ISLNK(mode):
        search.blocks(f"{place} (target of the link)", iter([os.fsencode(path.readlink())]))
    elif stat.S_ISREG(mode):
        with path.open("rb") as file:
            search.blocks(place, read_blocks(file))
        _unpack(search, path, place)


def _unpack(search: Search, path: Path, place: str) -> None:
    try:
        for name, blocks in unpacked(path):
            inside = search.begin(name.encode()) if name else "unpacked"
            search.blocks(f"{place} ({inside})", blocks)
    except Packed as error:
        search.unread(place, str(error))
