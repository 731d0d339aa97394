"""The page of drafts: what it shows, and that nothing said by anybody becomes markup."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.drafts import Draft, Plan
from palimpsest.report.drafts import drafts_page

EVIL = "</div><script>alert('1')</script> & \"$prompt\""


class Page(HTMLParser):
    """Tags, links, and the text of each class."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.of_class: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        if tag == "a":
            self.links.append(named.get("href"))
        if tag not in ("meta", "br"):
            self._open.append(named.get("class") or tag)
            self.of_class.setdefault(self._open[-1], []).append("")

    def handle_endtag(self, tag: str) -> None:
        if self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for name in self._open:
            self.of_class[name][-1] += data


def draft(text: str, **changes: object) -> Draft:
    plain: dict[str, object] = {
        "text": text,
        "token_ids": (1, 2),
        "logprob": None,
        "token_logprobs": (),
        "score": -1.0,
        "reason": "length",
        "stop": "",
        "ngram_share": 0.0,
        "sources": (),
        "slot": 0,
    }
    return Draft(**{**plain, **changes})  # type: ignore[arg-type]


def source(uri: str) -> pb.QuoteSource:
    where = pb.TextRange(byte_start=3, byte_end=9)
    return pb.QuoteSource(corpus="corpora/c", document=EVIL, version=2, title=EVIL, uri=uri, range=where)


def test_drafts_stand_side_by_side_and_what_is_alike_is_dimmed():
    plan = Plan("verified", {}, 0.0, 0.06, 0.0, "", b"")
    drafts = [draft("a red fox", logprob=-1.25), draft("a red dog", reason="stop", stop="."), draft("none")]
    page = Page(drafts_page(drafts, "It was", plan, "smollm2"))
    assert page.of_class["text"] == ["a red fox", "a red dog", "none"]
    assert page.of_class["shared"] == ["a red "]
    assert page.of_class["text prompt"] == ["It was"]
    assert page.of_class["small"][0] == "log-probability -1.25, 2 tokens, length"
    assert page.of_class["small"][1] == "2 tokens, stop '.'"
    assert "smollm2, verified" in page.of_class["footer"][0]


def test_files_of_this_machine_are_links_and_those_of_others_are_not():
    sources = (
        source("file:///srv/manual.txt"),
        source("file://elsewhere/share/x"),
        source("data:text/html,x"),
    )
    page = Page(drafts_page([draft("a", sources=sources), draft("b")], "p", model="m"))
    assert page.links == ["file:///srv/manual.txt"]


def test_nothing_becomes_markup_and_no_address_but_the_webs_a_link():
    sources = (source("https://example.org/?a=1&b=2"), source("javascript:alert(1)"))
    text = drafts_page([draft(EVIL, sources=sources), draft(EVIL + "!")], EVIL, model=EVIL)
    page = Page(text)
    assert "script" not in page.tags
    assert page.links == ["https://example.org/?a=1&b=2"]
    assert "javascript" not in text
    assert page.of_class["text"][1] == EVIL + "!"
    assert page.tags.count("li") == 4
    assert "src=" not in text


def test_a_long_prompt_is_shown_by_its_end_and_no_draft_is_said():
    page = Page(drafts_page([], "x" * 1000 + "the end"))
    assert page.of_class["text prompt"][0].endswith("the end")
    assert len(page.of_class["text prompt"][0]) < 500
    assert page.of_class["p"] == ["There are no drafts."]


@given(st.lists(st.text(max_size=12), min_size=1, max_size=4), st.text(max_size=12))
def test_any_text_is_shown_as_it_is(texts, prompt):
    page = Page(drafts_page([draft(text) for text in texts], prompt))
    normal = [text.replace("\r\n", "\n").replace("\r", "\n") for text in texts]
    shown = [text.replace("\r\n", "\n").replace("\r", "\n") for text in page.of_class["text"]]
    assert shown == normal
