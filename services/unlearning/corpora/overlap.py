"""Text that is in the forget set and in the retain set: what a regulariser would teach again.

Documents are compared by their 13-grams of words, as in the decontamination of GPT-3's data (Brown et al. 2020,
appendix C). The comparison is exact: only the forget set is held in memory, and the retain set passes by.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

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


@dataclass
class _Grams:
    """The grams of one forget document: the positions of each, and those found so far."""

    count: int
    found: set[bytes] = field(default_factory=set)
    retained: dict[str, int] = field(default_factory=dict)


def find_overlaps(
    forget: Sequence[Document], retain: Iterable[Document], words: int = WORDS
) -> tuple[Overlap, ...]:
    """List forget documents whose text is in a retain set, too.

    Case, punctuation and white space do not count. A document of fewer words than a gram has one gram, itself.

    Parameters
    ----------
    forget
        Held in memory: some 100 bytes a word.
    retain
        Read once.
    words
        Words of a gram.

    Returns
    -------
    tuple
        In the order of the forget set; documents without overlap are left out.
    """
    owners: dict[bytes, set[int]] = {}
    grams: list[_Grams] = []
    sizes: set[int] = set()
    places: dict[bytes, int] = {}
    for number, document in enumerate(forget):
        text = _words(document.text)
        size = min(words, len(text))
        own = _grams(text, size)
        grams.append(_Grams(len(own)))
        sizes |= {size} if own else set()
        for gram in own:
            owners.setdefault(gram, set()).add(number)
    for document in retain:
        text = _words(document.text)
        for gram in {gram for size in sizes for gram in _grams(text, size)}:
            if gram not in owners:
                continue
            places[gram] = places.get(gram, 0) + 1
            for number in owners[gram] if places[gram] <= _PLACES else ():
                grams[number].found.add(gram)
                counts = grams[number].retained
                counts[document.id] = counts.get(document.id, 0) + 1
    return tuple(
        Overlap(
            document.id,
            len(own.found) / own.count,
            tuple(sorted(own.retained.items(), key=lambda each: (-each[1], each[0]))),
        )
        for document, own in zip(forget, grams, strict=True)
        if own.found
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
