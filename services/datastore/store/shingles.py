"""Proof that bytes are gone: every run of 32 bytes of a deleted text, looked for in every file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from services.datastore.files import blocks_of
from services.datastore.store.documents import Document

SIZE = 32
"""Bytes of a shingle."""
_SHORTEST = 12
"""Bytes below which a text is too common to be looked for."""
_BASE = np.uint64(0x9E3779B97F4A7C15)


class Hit(NamedTuple):
    """A shingle that is still there: the file and its offset."""

    file: str
    offset: int


def shingles(data: bytes) -> np.ndarray:
    """Hash each run of 32 bytes, uint64 [len - 31]: the value of a polynomial modulo 2^64."""
    if len(data) < SIZE:
        return np.zeros(0, np.uint64)
    values, factor, width = np.frombuffer(data, np.uint8).astype(np.uint64) + np.uint64(1), _BASE, 1
    with np.errstate(over="ignore"):
        while width < SIZE:  # a run of 2w is a run of w and the one after it
            values = values[:-width] * factor + values[width:]
            factor, width = factor * factor, 2 * width
    return values


def forms(document: Document) -> Iterator[bytes]:
    """The bytes a document may leave behind: its text, its token ids in either width, and what it was called."""
    yield bytes(document.data)
    yield document.tokens.astype("<u2").tobytes()
    yield document.tokens.astype("<u4").tobytes()
    head = document.head
    for text in (head.title, head.uri, *head.metadata.values()):
        yield text.encode()


class Scanner:
    """What must not be found any more.

    Parameters
    ----------
    deleted
        Documents whose bytes are to be gone.
    """

    def __init__(self, deleted: Iterable[Document]) -> None:
        found: list[np.ndarray] = []
        self._short: set[bytes] = set()
        self.unproven = 0
        """Texts too short to be told from others."""
        for document in deleted:
            for number, data in enumerate(forms(document)):
                found.append(shingles(data))
                if number == 0 and len(data) < SIZE:
                    self.unproven += len(data) < _SHORTEST
                    self._short |= {data} if len(data) >= _SHORTEST else set()
        self._wanted = np.unique(np.concatenate([np.zeros(0, np.uint64), *found]))

        self._allowed = np.zeros(len(self._wanted), bool)

    @property
    def count(self) -> int:
        """Shingles looked for."""
        return len(self._wanted) - int(self._allowed.sum()) + len(self._short)

    def allow(self, document: Document) -> None:
        """Let be what a live document holds too."""
        for data in forms(document):
            at, own = self._found(data)
            self._allowed[at[own]] = True
            self._short = {text for text in self._short if text not in data}

    def allow_seam(self, before: bytes, after: bytes) -> None:
        """Let be what stands where one live text ends and the next begins in a file: nobody's text, by chance alike."""
        at, own = self._found(before[-(SIZE - 1) :] + after[: SIZE - 1])
        self._allowed[at[own]] = True

    def _found(self, data: bytes) -> tuple[np.ndarray, np.ndarray]:
        """For each shingle of some bytes its place among those wanted, and whether it is one of them."""
        own = shingles(data)
        if not len(own) or not len(self._wanted):
            return np.zeros(0, np.int64), np.zeros(0, bool)
        at = np.minimum(np.searchsorted(self._wanted, own), len(self._wanted) - 1)
        return at, self._wanted[at] == own

    def scan(self, folder: Path) -> tuple[list[Hit], int]:
        """Look through every file under a folder; returns what was found, and how many bytes were read."""
        hits: list[Hit] = []
        read = 0
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = str(path.relative_to(folder))
            try:
                for at, data in blocks_of(path, SIZE - 1):
                    read += len(data)
                    hits += [Hit(name, at + offset) for offset in self._offsets(data)]
            except FileNotFoundError:
                continue  # replaced meanwhile: it is gone
        return hits, read

    def _offsets(self, data: bytes) -> list[int]:
        found = [data.find(text) for text in self._short]
        at, own = self._found(data)
        found += np.flatnonzero(own & ~self._allowed[at])[:8].tolist()
        return [offset for offset in found if offset >= 0]
