"""Where text that was not generated comes from: a range of bytes in a document of a corpus."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a span's bytes are. Ranges are half-open.

    Parameters
    ----------
    corpus, document, version, passage
        Whose they are; ``passage`` is a number within the document, and -1 where only the document is known.
    title, uri
        The document's.
    byte_start, byte_end, char_start, char_end
        In the document: bytes, and code points.
    token_start, token_end
        In the document, of the whole tokens that the bytes were taken from.
    sha256
        Of those bytes, in hex.
    document_sha256
        Of all the document's bytes.
    score
        The passage's retrieval score.
    prefix, suffix
        A little of the passage's text before and after.
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
