"""Text with its sources, from the events of a stream; and the page that shows it."""

from html.parser import HTMLParser

import pytest

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.cli.output.quotes import Inline, Kept, nest_settings
from palimpsest.client.quotes import CitedText
from palimpsest.report.quotes import quotes_page

TEXT = "Näh: a list is mutable. <b>Yes</b>"
FIRST, SECOND = ("manual", "types"), ("manual", "lists")


def source(document: tuple[str, str], start: int, end: int) -> pb.QuoteSource:
    corpus, name = document
    return pb.QuoteSource(
        corpus=f"corpora/{corpus}",
        document=name,
        version=1,
        title=name.title(),
        uri=f"https://example.org/{name}",
        range=pb.TextRange(byte_start=start, byte_end=end, char_start=start, char_end=end),
    )


def span(number: int, start: int, end: int, *sources: pb.QuoteSource) -> pb.GenerateResponse:
    where = pb.TextRange(
        char_start=start,
        char_end=end,
        byte_start=len(TEXT[:start].encode()),
        byte_end=len(TEXT[:end].encode()),
    )
    quoted = pb.QuotedSpan(span_id=number, kind=pb.QuotedSpan.KIND_SPAN, range=where, sources=sources)
    return pb.GenerateResponse(span=quoted)


@pytest.fixture
def events() -> list[pb.GenerateResponse]:
    match = span(9, 0, 3, source(FIRST, 0, 3))
    match.span.kind = pb.QuotedSpan.KIND_TOKEN_MATCH
    return [
        pb.GenerateResponse(started=pb.GenerateStarted(prompt_tokens=3)),
        pb.GenerateResponse(delta=pb.GenerateDelta(text=TEXT[:23])),
        match,
        span(0, 5, 11, source(SECOND, 100, 106)),
        span(1, 12, 22, source(FIRST, 7, 17), source(SECOND, 50, 60)),
        pb.GenerateResponse(delta=pb.GenerateDelta(text=TEXT[23:])),
        span(2, 24, 34, source(SECOND, 200, 210)),
        pb.GenerateResponse(revoked=pb.SpanRevoked(span_id=2)),
        pb.GenerateResponse(finished=pb.SequenceFinished(text=TEXT, generated_tokens=9)),
    ]


def test_quotes_carry_the_number_of_their_source_in_order_of_appearance(events):
    cited = CitedText.of(events)
    assert [quote.text for quote in cited.quotes] == ["a list", "is mutable", "<b>Yes</b>"]
    assert [[s.number for s in quote.sources] for quote in cited.quotes] == [[1], [2, 1], [1]]
    assert [s.document for s in cited.sources] == ["lists", "types"]
    assert [quote.revoked for quote in cited.quotes] == [False, False, True]
    body, empty, *lines = cited.numbered().split("\n")
    assert body == "Näh: a list[1] is mutable[2]. <b>Yes</b>[1]"
    assert empty == ""
    assert lines == [
        "[1] Lists <https://example.org/lists>, manual/lists v1, bytes 100-106, 50-60, 200-210 (revoked)",
        "[2] Types <https://example.org/types>, manual/types v1, bytes 7-17",
    ]


def test_text_that_quotes_nothing_is_only_text():
    cited = CitedText.of([pb.GenerateResponse(finished=pb.SequenceFinished(text="plain"))])
    assert cited.numbered() == "plain"
    assert "Nothing is quoted" in quotes_page(cited, "?")


class Page(HTMLParser):
    """Text of the body, marks and links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.marks: list[dict[str, str | None]] = []
        self.ids: set[str] = set()
        self.targets: set[str] = set()
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        if tag == "mark":
            self.marks.append(named)
        self.ids |= {str(named["id"])} if "id" in named else set()
        self.targets |= {str(named["href"])[1:]} if str(named.get("href", "")).startswith("#") else set()


def test_the_page_marks_quotes_links_sources_and_trusts_nothing(events):
    prompt = "<script>alert(1)</script>"
    page = Page(quotes_page(CitedText.of(events), prompt, "smollm2"))
    assert len(page.marks) == 3
    assert page.marks[2]["class"] == "revoked"
    assert page.targets == page.ids
    assert "script" not in page.tags
    assert page.tags.count("b") == 2  # the sources' titles, not the text's own
    for uri in ("https://example.org/manual", "file:///srv/manual.txt"):
        events[4].span.sources[0].uri = uri
        assert f'href="{uri}"' in quotes_page(CitedText.of(events), prompt)
    evil = events[4].span.sources[0]
    evil.uri = "javascript:alert(1)"
    assert "javascript" not in quotes_page(CitedText.of(events), prompt)


def test_modes_are_words_of_the_contract():
    made = nest_settings(["manual", "corpora/other"], "nest-strict", 4)
    assert made.corpora == ["corpora/manual", "corpora/other"]
    assert made.mode == pb.NestSettings.MODE_NEST_STRICT
    assert nest_settings(["a"], "", 0).mode == pb.NestSettings.MODE_UNSPECIFIED


def written(events: list[pb.GenerateResponse]) -> str:
    kept = Kept(events)
    inline = Inline(kept.cited)
    return "".join(inline.take(event) for event in kept)


def test_a_stream_is_written_with_its_numbers_as_it_comes(events):
    del events[4]  # told beside another: its text has passed
    assert written(events[:3]) == TEXT[:23]
    assert written(events) == "Näh: a list is mutable." + "[1]" + " <b>Yes</b>[1]"


def test_a_quote_that_grows_is_numbered_once():
    parts = ["It says ", "a list", " is", " mutable", ", so", " there"]
    grown = ["a list", "a list is"]
    told, at = [], 0
    for number, part in enumerate(parts):
        told.append(pb.GenerateResponse(delta=pb.GenerateDelta(text=part)))
        if number in (1, 2):
            at = len(grown[number - 1])
            told.append(span(0, 8, 8 + at, source(FIRST, 0, at)))
        if number == 3:
            told.append(span(1, 17, 25, source(SECOND, 0, 8)))
    told.append(pb.GenerateResponse(finished=pb.SequenceFinished(text="".join(parts))))
    assert written(told) == "It says a list is[1] mutable[2], so there"
