"""Proof that bytes are gone: every 32-byte shingle of the deleted texts is searched for in every file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from services.datastore.files import blocks_of
from services.datastore.store.documents import Document

SIZE = 32
"""Bytes of a shingle."""
_SHORTEST = 12
"""Texts shorter than this many bytes are not searched for: they occur by chance."""
_BASE = np.uint64(0x9E3779B97F4A7C15)


class Remnant(NamedTuple):
    """A shingle of a deleted document that was found: the file and the offset in it."""

    file: str
    offset: int


def shingles(data: bytes) -> np.ndarray:
    """Hash each run of 32 bytes, uint64 [len - 31]: the value of a polynomial modulo 2^64."""
    if len(data) < SIZE:
        return np.zeros(0, np.uint64)
    values = np.frombuffer(data, np.uint8).astype(np.uint64) + np.uint64(1)  # [len]
    factor, width = _BASE, 1
    with np.errstate(over="ignore"):
        while width < SIZE:  # the hash of 2 w bytes combines those of its two halves
            values = values[:-width] * factor + values[width:]  # [len - 2 w + 1]
            factor, width = factor * factor, 2 * width
    return values


def forms(document: Document) -> Iterator[bytes]:
    """The byte strings that a document may leave behind: text, token ids in either width, title, uri and metadata."""
    yield bytes(document.data)
    yield document.tokens.astype("<u2").tobytes()
    yield document.tokens.astype("<u4").tobytes()
    head = document.head
    for text in (head.title, head.uri, *head.metadata.values()):
        yield text.encode()


class Scanner:
    """The shingles of deleted documents, less those that live documents share.

    Parameters
    ----------
    deleted
        Documents whose bytes must not be found.
    """

    def __init__(self, deleted: Iterable[Document]) -> None:
        found: list[np.ndarray] = []
        self._short: set[bytes] = set()
        self.unproven = 0
        """Number of texts too short to search for."""
        for document in deleted:
            for number, data in enumerate(forms(document)):
                found.append(shingles(data))
                if number == 0 and len(data) < SIZE:
                    self.unproven += len(data) < _SHORTEST
                    self._short |= {data} if len(data) >= _SHORTEST else set()
        self._wanted = np.unique(np.concatenate([np.zeros(0, np.uint64), *found]))  # [S] uint64, ascending
        self._allowed = np.zeros(len(self._wanted), bool)  # [S]

    @property
    def count(self) -> int:
        """Number of shingles searched for."""
        return len(self._wanted) - int(self._allowed.sum()) + len(self._short)

    def allow(self, document: Document) -> None:
        """Exclude the shingles of a live document."""
        for data in forms(document):
            index, found = self._lookup(data)
            self._allowed[index[found]] = True
            self._short = {text for text in self._short if text not in data}

    def allow_seam(self, before: bytes, after: bytes) -> None:
        """Exclude the shingles across the boundary of two live texts in a file: a match there is a coincidence."""
        index, found = self._lookup(before[-(SIZE - 1) :] + after[: SIZE - 1])
        self._allowed[index[found]] = True

    def _lookup(self, data: bytes) -> tuple[np.ndarray, np.ndarray]:
        """For each shingle of some bytes, its index among the wanted ones, and whether it is one of them."""
        own = shingles(data)  # [len - 31] uint64
        if not len(own) or not len(self._wanted):
            return np.zeros(0, np.int64), np.zeros(0, bool)
        index = np.minimum(np.searchsorted(self._wanted, own), len(self._wanted) - 1)  # [len - 31] int64
        return index, self._wanted[index] == own

    def scan(self, folder: Path) -> tuple[list[Remnant], int]:
        """Search every file under a folder; returns the remnants, and how many bytes were read."""
        remnants: list[Remnant] = []
        read = 0
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = str(path.relative_to(folder))
            try:
                for at, data in blocks_of(path, SIZE - 1):
                    read += len(data)
                    remnants += [Remnant(name, at + offset) for offset in self._offsets(data)]
            except FileNotFoundError:
                continue  # the file was replaced meanwhile
        return remnants, read

    def _offsets(self, data: bytes) -> list[int]:
        offsets = [data.find(text) for text in self._short]
        index, found = self._lookup(data)
        offsets += np.flatnonzero(found & ~self._allowed[index])[:8].tolist()
        return [offset for offset in offsets if offset >= 0]
