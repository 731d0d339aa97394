"""From text to the terms it is found by: words, lower case, as 64-bit hashes."""

import hashlib
import re
from collections import Counter
from functools import lru_cache

Terms = Counter[int]
"""How often each term occurs."""

_WORD = re.compile(r"\w+")


@lru_cache(1 << 16)
def term_hash(word: str) -> int:
    """The number a word is known by: an index keeps no word of a document, only these."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    return _WORD.findall(text.lower())


def terms_of(text: str) -> Terms:
    """The terms of a text."""
    return Counter(map(term_hash, words_of(text)))
