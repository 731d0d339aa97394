"""Words that passages cut: found whole, in both passages, and never by another document's rest."""

import re

import pytest

from services.datastore.index.analysis import whole_words
from services.datastore.index.encoder import HashedWords
from services.datastore.search.passages import SearchMode, search
from services.datastore.store.builds import build
from services.datastore.store.documents import Document

WORD = b"extraordinarily"


@pytest.mark.parametrize(
    "text", ["many fine words for cutting", "naïve café 雪のきつね 🦊🦊 émigré", "", "no"]
)
def test_a_cut_within_a_word_is_widened_to_the_word(text):
    data = text.encode()
    spans = [
        (len(text[:a].encode()), len(text[:b].encode()))
        for a, b in (w.span() for w in re.finditer(r"\w+", text))
    ]
    for start in range(len(data) + 1):
        for end in range(start, len(data) + 1):
            first, last = whole_words(data, start, end)
            assert first == min([start, *(a for a, b in spans if a < start < b)])
            assert last == max([end, *(b for a, b in spans if a < end < b)])


def test_a_word_without_end_is_not_read_to_its_end():
    assert whole_words(b"x" * 5000, 1000, 2000) == (744, 2256)


@pytest.fixture
def cut(make) -> Document:
    """A document whose first passage ends within a word."""
    for padding in range(40):
        document = make("cut", b"z " * padding + WORD + b" and more")
        if document.passages > 1 and 3 < len(document.text(0).rpartition(b" ")[2]) < len(WORD):
            return document
    raise AssertionError("no passage ends within a word")


def found(corpus, word: bytes) -> set[tuple[str, int]]:
    hits = search([corpus], word.decode(), [None], 9, SearchMode.SPARSE).hits
    return {(hit.source.document.head.document, hit.source.passage) for hit in hits}


@pytest.mark.parametrize("built", [False, True])
def test_a_word_is_found_whole_in_both_passages_and_not_by_its_pieces(corpus, make, cut, built):
    head, rest = cut.text(0).rpartition(b" ")[2], cut.text(1).partition(b" ")[0]
    assert head + rest == WORD
    corpus.add([cut, make("other", b"nothing of that kind is here")])
    if built:
        build(corpus, HashedWords())
    assert found(corpus, WORD) == {("cut", 0), ("cut", 1)}
    assert found(corpus, head) == found(corpus, rest) == set()


@pytest.mark.parametrize("built", [False, True])
def test_equal_passages_are_found_by_the_words_of_their_own_documents(corpus, make, cut, built):
    alike = cut.text(0)
    head = alike.rpartition(b" ")[2]
    other = make("other", alike + b"QQ and more")
    assert other.digest(0) == cut.digest(0)
    corpus.add([cut, other])
    if built:
        build(corpus, HashedWords())
    assert ("cut", 0) in found(corpus, WORD)
    assert ("other", 0) in found(corpus, head + b"QQ")
    assert ("other", 0) not in found(corpus, WORD)
    corpus.delete(["cut"])
    assert found(corpus, WORD) == set()
    assert ("other", 0) in found(corpus, head + b"QQ")
