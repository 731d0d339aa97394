"""Where quoted text comes from: a range of bytes in a document of a corpus."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a span's bytes are in one document. Ranges are half-open.

    Parameters
    ----------
    corpus, document, version, passage
        The document and its passage; ``passage`` is a number within the document, -1 where only the document is known.
    title, uri
        Of the document.
    byte_start, byte_end, char_start, char_end
        Within the document, in bytes and in code points.
    token_start, token_end
        Within the document: the whole tokens that contain the bytes.
    sha256
        Of these bytes, in hex.
    document_sha256
        Of the whole document, in hex.
    score
        The passage's retrieval score.
    prefix, suffix
        Some of the passage's text before and after.
    """

    corpus: str
    document: str
    version: int
    passage: int
    title: str
    uri: str
    byte_start: int
    byte_end: int
    char_start: int
    char_end: int
    token_start: int
    token_end: int
    sha256: str
    document_sha256: str
    score: float
    prefix: str = ""
    suffix: str = ""
