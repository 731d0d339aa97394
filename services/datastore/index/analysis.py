"""Text analysis: from text to index terms, which are lower-case words as 64-bit hashes."""

import hashlib
import re
from collections import Counter
from functools import lru_cache

Terms = Counter[int]
"""Number of occurrences of each term."""

_WORD = re.compile(r"\w+")
_HEAD, _TAIL = re.compile(r"\A\w+"), re.compile(r"\w+\Z")
_REACH = 256
"""Bytes on either side of a cut that are searched for the ends of a word."""


@lru_cache(1 << 16)
def term_hash(word: str) -> int:
    """64-bit hash of a word. Indexes store hashes only, never the words of a document."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    return _WORD.findall(text.lower())


def terms_of(text: str) -> Terms:
    """The terms of a text."""
    return Counter(map(term_hash, words_of(text)))


def whole_words(data: bytes | memoryview, start: int, end: int) -> tuple[int, int]:
    """Widen a byte range of UTF-8 text to include whole the words and characters that its two ends cut through."""
    first, last = _cut_word(data, start), _cut_word(data, end)
    return first[0] if first else start, last[1] if last else end


def _cut_word(data: bytes | memoryview, at: int) -> tuple[int, int] | None:
    """Byte range of the word that a cut goes through; None if the cut is between words."""
    whole = at
    while 0 < whole < len(data) and data[whole] & 0xC0 == 0x80:
        whole -= 1
    tail = _TAIL.search(bytes(data[max(0, whole - _REACH) : whole]).decode(errors="ignore"))
    head = _HEAD.search(bytes(data[whole : whole + _REACH]).decode(errors="ignore"))
    if head is None or (tail is None and whole == at):
        return None
    before = len(tail.group().encode()) if tail else 0
    return whole - before, whole + len(head.group().encode())
