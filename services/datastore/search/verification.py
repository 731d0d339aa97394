"""Verifying quotes: whether a byte range of a live document still holds the quoted bytes."""

import hashlib
from enum import Enum

from palimpsest.errors import DataLoss, NotFound
from services.datastore.store.corpus import Corpus


class Verdict(Enum):
    """The outcome of verifying a quote."""

    EXACT = "exact"
    GONE = "gone"
    OUT_OF_RANGE = "out_of_range"
    DIFFERENT = "different"
    DAMAGED = "damaged"


def verify(
    corpus: Corpus, document: str, version: int, byte_start: int, byte_end: int, sha256: str
) -> Verdict:
    """Compare the digest of a quote with the bytes that the live document holds in that range."""
    try:
        found = corpus.find(document, version)
    except NotFound:
        return Verdict.GONE
    except DataLoss:
        return Verdict.DAMAGED
    data = found.document.data
    if not 0 <= byte_start < byte_end <= len(data):
        return Verdict.OUT_OF_RANGE
    actual = hashlib.sha256(data[byte_start:byte_end]).hexdigest()
    return Verdict.EXACT if actual == sha256 else Verdict.DIFFERENT
