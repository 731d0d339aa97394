"""Quotes of corpora as annotations of a text: which of its characters are whose, byte for byte."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from palimpsest.api.decoding.v1 import decoding_pb2 as pb


@dataclass(frozen=True)
class Quotes:
    """What one event says of one choice's quotes."""

    index: int
    annotations: list[dict[str, Any]]


def annotations_of(text: str, spans: Iterable[pb.QuotedSpan]) -> list[dict[str, Any]]:
    """The quotes of a finished text, in its order."""
    ordered = sorted(spans, key=lambda span: span.range.char_start)
    return [_annotation(span, text) for span in ordered]


def quotes_of(event: pb.GenerateResponse) -> Quotes | None:
    """What an event of a stream says of quotes; None for an event of another kind.

    A span that grows is sent again under the same ``span_id``; one whose documents were deleted since is ``revoked``.
    """
    kind = event.WhichOneof("event")
    if kind == "span" and event.span.kind == pb.QuotedSpan.KIND_SPAN:
        return Quotes(event.span.index, [_annotation(event.span)])
    if kind == "revoked":
        revoked = {"type": "quotation_revoked", "span_id": event.revoked.span_id}
        return Quotes(event.revoked.index, [revoked])
    return None


def _annotation(span: pb.QuotedSpan, text: str | None = None) -> dict[str, Any]:
    """A quotation. ``url_citation`` is what OpenAI's clients know; what they do not know is beside it.

    Offsets are half-open, in characters of the text that was generated; ``byte_start`` and ``byte_end`` of a source are
    exact in the document.
    """
    source, at = span.sources[0], span.range
    made: dict[str, Any] = {
        "type": "url_citation",
        "url_citation": {
            "start_index": at.char_start,
            "end_index": at.char_end,
            "title": source.title or source.document,
            "url": source.uri or f"palimpsest:{source.corpus}/documents/{source.document}",
        },
        "span_id": span.span_id,
        "sha256": span.sha256,
        "sources": [source_of(each) for each in span.sources],
    }
    if text is not None:
        made["quote"] = text[at.char_start : at.char_end]
    return made


def source_of(source: pb.QuoteSource) -> dict[str, Any]:
    """A document that is quoted, and where in it the words are."""
    return {
        "corpus": source.corpus,
        "document": source.document,
        "version": source.version,
        "title": source.title,
        "uri": source.uri,
        "byte_start": source.range.byte_start,
        "byte_end": source.range.byte_end,
        "char_start": source.range.char_start,
        "char_end": source.range.char_end,
        "document_sha256": source.document_sha256,
    }
