"""Text that is in the forget set and in the retain set: what a regulariser would teach again.

Documents are compared by their 13-grams of words, as in the decontamination of GPT-3's data (Brown et al. 2020,
appendix C). The comparison is exact: only the forget set is held in memory, and the retain set passes by.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora.records import Document

WORDS = 13
"""Words of a gram."""
MOST_SHARED = 0.2
"""Share of a forget document's grams that may be in the retain set: boilerplate is in both, and no reason to refuse."""
_NAMED = 10
_PLACES = 100
"""Retain documents of one gram that are named. A gram in as many is boilerplate: counting on, of two sets with one line
in common a million times, would take a trillion steps."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Overlap:
    """What of one forget document is in the retain set.

    Attributes
    ----------
    document
        Id of the forget document.
    share
        Share of its grams that are in the retain set as a whole.
    retained
        Retain documents that have any, with how many grams, most first. A gram counts for the first 100 that have it.
    """

    document: str
    share: float
    retained: tuple[tuple[str, int], ...]


class _Index:
    """The grams of forget documents, sorted: twelve bytes each, where a dictionary of sets takes hundreds."""

    def __init__(self, documents: Sequence[Document], words: int) -> None:
        self.sizes: set[int] = set()
        self._counts = np.zeros(len(documents), np.int64)  # [documents]
        grams, owners = array("Q"), array("i")
        for number, document in enumerate(documents):
            text = _words(document.text)
            size = min(words, len(text))
            own = _grams(text, size)
            self.sizes |= {size} if own else set()
            self._counts[number] = len(own)
            grams.frombytes(b"".join(own))
            owners.extend([number] * len(own))
        keys = np.frombuffer(grams, np.uint64) if grams else np.zeros(0, np.uint64)
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]  # [grams]
        self._owners = np.array(owners, np.int32)[order]  # [grams]
        self._found = np.zeros(len(order), bool)  # [grams]
        self._places: dict[int, int] = {}
        self._retained: dict[int, dict[str, int]] = {}

    def look_up(self, grams: set[bytes], name: str) -> None:
        """Note which grams of a retain document are there."""
        sought = np.frombuffer(b"".join(grams), np.uint64)
        first = np.searchsorted(self._keys, sought)
        there = first < len(self._keys)
        there[there] = self._keys[first[there]] == sought[there]
        for at in first[there].tolist():
            self._places[at] = self._places.get(at, 0) + 1
            if self._places[at] > _PLACES:
                continue
            end = int(np.searchsorted(self._keys, self._keys[at], side="right"))
            self._found[at:end] = True
            for number in self._owners[at:end].tolist():
                counts = self._retained.setdefault(number, {})
                counts[name] = counts.get(name, 0) + 1

    def found(self) -> Iterator[tuple[float, dict[str, int]]]:
        """Yield, of each forget document, the share of its grams that was found, and where."""
        found = np.bincount(self._owners[self._found], minlength=len(self._counts))  # [documents]
        for number, (some, count) in enumerate(zip(found.tolist(), self._counts.tolist(), strict=True)):
            yield some / max(count, 1), self._retained.get(number, {})


def find_overlaps(
    forget: Sequence[Document], retain: Iterable[Document], words: int = WORDS
) -> tuple[Overlap, ...]:
    """List forget documents whose text is in a retain set, too.

    Case, punctuation and white space do not count. A document of fewer words than a gram has one gram, itself.

    Parameters
    ----------
    forget
        Its grams are held in memory: twelve bytes a word, and four times that while they are sorted.
    retain
        Read once.
    words
        Words of a gram.

    Returns
    -------
    tuple
        In the order of the forget set; documents without overlap are left out.
    """
    index = _Index(forget, words)
    for document in retain:
        text = _words(document.text)
        for size in index.sizes:
            index.look_up(_grams(text, size), document.id)
    return tuple(
        Overlap(document.id, share, tuple(sorted(retained.items(), key=lambda each: (-each[1], each[0]))))
        for document, (share, retained) in zip(forget, index.found(), strict=True)
        if retained
    )


def require_no_overlap(
    forget: Sequence[Document], retain: Iterable[Document], words: int = WORDS, most: float = MOST_SHARED
) -> tuple[Overlap, ...]:
    """Refuse a request whose forget text also lives in the retain set.

    Returns
    -------
    tuple
        The overlaps that are small enough, for a report.

    Raises
    ------
    InvalidArgument
        FORGET_RETAIN_OVERLAP, naming documents on both sides.
    """
    overlaps = find_overlaps(forget, retain, words)
    large = [each for each in overlaps if each.share > most]
    if not large:
        return overlaps
    named = "; ".join(
        f"{each.document} ({each.share:.0%}: {', '.join(name for name, _ in each.retained[:3])})"
        for each in large[:_NAMED]
    )
    rest = f"; and {len(large) - _NAMED} more" if len(large) > _NAMED else ""
    raise InvalidArgument(
        Reason.FORGET_RETAIN_OVERLAP,
        f"{len(large)} forget documents are in the retain set, too, which would teach them again: {named}{rest}. "
        "Take them out of the retain set, or add their copies to the request.",
        metadata={"documents": len(large), "words": words},
    )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _grams(text: Sequence[str], size: int) -> set[bytes]:
    """Digests of all runs of so many words: 64 bits, which a billion grams share with a chance of a few per cent."""
    if not size:
        return set()
    return {
        blake2b(" ".join(text[at : at + size]).encode(), digest_size=8).digest()
        for at in range(len(text) - size + 1)
    }
