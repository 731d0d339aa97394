"""Text with its sources: what a stream of generated text says of whose words it quotes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.notebooks import link


@dataclass(frozen=True)
class Source:
    """A document that is quoted.

    Parameters
    ----------
    number
        From 1, in the order in which documents are first quoted.
    corpus, document, version
        Which one; ``version`` grows each time a document is put in again.
    title, uri
        As they were given with it.
    """

    number: int
    corpus: str
    document: str
    version: int
    title: str
    uri: str

    @property
    def label(self) -> str:
        """Its title, or its id."""
        return self.title or self.document


@dataclass(frozen=True)
class Quote:
    """A run of the text that is a document's.

    Parameters
    ----------
    start, end
        Where it is in the text, in characters, half-open.
    text
        Its words.
    sources
        Whose they are: the document they were taken from first, then others with the same.
    span
        The message it came in: also ranges in bytes, ranges in the sources, and how it was accepted.
    revoked
        Whether all its sources have been deleted since: it must not be shown as a quotation any more.
    """

    start: int
    end: int
    text: str
    sources: tuple[Source, ...]
    span: pb.QuotedSpan
    revoked: bool = False


@dataclass
class CitedText:
    """One generated sequence, its quotes and its sources; grows as it takes the events of a stream.

    Attributes
    ----------
    text
        All of it so far.
    finished
        The message that ended the text; None while it is still being generated.
    """

    text: str = ""
    finished: pb.SequenceFinished | None = None
    _spans: dict[int, pb.QuotedSpan] = field(default_factory=dict)
    _revoked: set[int] = field(default_factory=set)
    _sources: dict[tuple[str, str, int], Source] = field(default_factory=dict)

    def take(self, event: pb.GenerateResponse) -> None:
        """Take the stream's next event; those that say nothing of text or sources are passed over."""
        kind = event.WhichOneof("event")
        if kind == "delta":
            self.text += event.delta.text
        elif kind == "span" and event.span.kind == pb.QuotedSpan.KIND_SPAN:
            self._spans[event.span.span_id] = event.span
            for source in event.span.sources:
                self._source(source)
        elif kind == "revoked":
            self._revoked.add(event.revoked.span_id)
        elif kind == "finished":
            self.finished, self.text = event.finished, event.finished.text

    @classmethod
    def of(cls, events: Iterable[pb.GenerateResponse]) -> "CitedText":
        """Take all events of a stream with one sequence."""
        made = cls()
        for event in events:
            made.take(event)
        return made

    @property
    def quotes(self) -> list[Quote]:
        """What is quoted, in the order of the text."""
        spans = sorted(self._spans.values(), key=lambda span: span.range.char_start)
        return [self.quote(span) for span in spans]

    @property
    def sources(self) -> list[Source]:
        """The documents quoted, by number."""
        return list(self._sources.values())

    def quote(self, span: pb.QuotedSpan) -> Quote:
        """One span as a quote."""
        start, end = span.range.char_start, span.range.char_end
        sources = tuple(self._source(source) for source in span.sources)
        return Quote(start, end, self.text[start:end], sources, span, span.span_id in self._revoked)

    def numbered(self) -> str:
        """The text with the number of its source after every quote, and the list of sources below it."""
        parts, at = [], 0
        for quote in self.quotes:
            parts += [self.text[at : quote.end], f"[{quote.sources[0].number}]"]
            at = quote.end
        parts.append(self.text[at:])
        body = "".join(parts)
        return "\n".join([body, "", *self.list_sources()]) if self._sources else body

    def __str__(self) -> str:
        return self.numbered()

    def _repr_html_(self) -> str:
        """Return the text with its quotes marked and numbered, and the sources below, for notebooks."""
        parts, at = [], 0
        for quote in self.quotes:
            number = quote.sources[0].number
            word = "s" if quote.revoked else "mark"
            parts.append(escape(self.text[at : quote.start]))
            parts.append(
                f"<{word}>{escape(self.text[max(at, quote.start) : quote.end])}</{word}><sup>{number}</sup>"
            )
            at = quote.end
        body = "".join([*parts, escape(self.text[at:])])
        items = "".join(f"<li>{link(source.label, source.uri)}</li>" for source in self.sources)
        return f'<p style="white-space: pre-wrap">{body}</p>' + (f"<ol>{items}</ol>" if items else "")

    def list_sources(self) -> list[str]:
        """A line for each source: its number, title, address and which of its bytes are quoted."""
        return [source_line(source, self.quotes) for source in self.sources]

    def _source(self, message: pb.QuoteSource) -> Source:
        key = (message.corpus, message.document, message.version)
        return self._sources.setdefault(
            key, Source(len(self._sources) + 1, *key, title=message.title, uri=message.uri)
        )


def source_line(source: Source, quotes: Iterable[Quote]) -> str:
    """A source in one line."""
    key = (source.corpus, source.document, source.version)
    places = [
        f"{at.range.byte_start}-{at.range.byte_end}{' (revoked)' if quote.revoked else ''}"
        for quote in quotes
        for at in quote.span.sources
        if (at.corpus, at.document, at.version) == key
    ]
    where = f" <{source.uri}>" if source.uri else ""
    name = f"{source.corpus.removeprefix('corpora/')}/{source.document} v{source.version}"
    return f"[{source.number}] {source.label}{where}, {name}, bytes {', '.join(places)}"
