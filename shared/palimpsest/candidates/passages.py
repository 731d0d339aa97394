"""Retrieved passages: their text, and the documents that contain it."""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Owner:
    """Another live document that contains a passage's bytes, and where.

    ``byte_start`` and ``char_start`` are the passage's first byte and the code points before it; ``token_start`` is
    the index of its first token in that document.
    """

    corpus: str
    document: str
    version: int
    byte_start: int
    char_start: int
    token_start: int
    title: str = ""
    uri: str = ""
    document_sha256: str = ""


@dataclass(frozen=True)
class Passage:
    """A retrieved passage and where it comes from.

    Parameters
    ----------
    corpus, document, version, passage
        Its source; ``passage`` is its number within the document.
    score
        Fused retrieval score, above 0; the best passage has the largest.
    token_start
        Index of its first token in the document.
    title, uri
        Of the document.
    text
        The bytes of its tokens: the document's from ``byte_start`` on.
    byte_start, char_start
        Of its first byte: bytes, and code points, before it in the document. A character counts where its first byte
        is.
    document_sha256
        Of all the document's bytes, in hex.
    owners
        Other live documents with these bytes.
    """

    corpus: str
    document: str
    version: int
    passage: int
    score: float
    token_start: int
    title: str
    uri: str
    text: bytes
    byte_start: int
    char_start: int
    document_sha256: str
    owners: tuple[Owner, ...] = ()


_TYPES = {"str": str, "int": int, "float": float, "bytes": bytes, "tuple[Owner, ...]": tuple}


def typed(kind: Any, values: dict[str, Any], **more: Any) -> Any:
    """A record from JSON, each field of its own type."""
    made = kind(**values, **more)
    for entry in fields(kind):
        annotation = entry.type if isinstance(entry.type, str) else getattr(entry.type, "__name__", "tuple")
        expected, value = _TYPES.get(annotation, tuple), getattr(made, entry.name)
        if not isinstance(value, expected) or isinstance(value, bool):
            raise ValueError(f"{entry.name} is {value!r}")
    return made


def plain(passage: Passage) -> dict[str, Any]:
    """A passage for JSON: without its text, which goes by its length."""
    plain = {f.name: getattr(passage, f.name) for f in fields(Passage)}
    plain["bytes"] = len(plain.pop("text"))
    plain["score"] = float(plain["score"])
    plain["owners"] = [dict(owner.__dict__) for owner in passage.owners]
    return plain
