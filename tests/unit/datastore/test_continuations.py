"""What follows a text in documents: against looking everywhere, in memory and in segments, alive and deleted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.datastore.index.encoder import HashedWords
from services.datastore.index.suffixes import Separated, longest_suffix, suffix_array
from services.datastore.search.continuations import (
    ADDED,
    CERTAIN,
    ContinuationQuery,
    continue_text,
    with_continuations,
)
from services.datastore.search.passages import SearchMode, search
from services.datastore.store.builds import build
from services.datastore.store.segment_writer import separated
from tests.unit.datastore.texts import long_text

TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=30)
STORY = b"the keeper lit the lamp, counted the ships, and wrote each name into a book that nobody read"
ENCODER = HashedWords()


@settings(deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=5), TOKENS)
def test_a_text_need_not_be_held_to_be_searched(documents, context):
    tokens = np.array([t for d in documents for t in d], np.uint16)
    doc_token = np.cumsum([0, *map(len, documents)])
    held, read = separated(tokens, doc_token), Separated(tokens, doc_token)
    array = suffix_array(held)
    for at in range(len(held)):
        stretch = held[at : at + 7].tolist()
        until = stretch.index(0) + 1 if 0 in stretch else len(stretch)
        assert read[at : at + 7].tolist() == stretch[:until]
    wanted = longest_suffix(held, array, np.array(context), 1, 32)
    found = longest_suffix(read, array, np.array(context), 1, 32)
    assert found[0] == wanted[0]
    assert found[1].tolist() == wanted[1].tolist()


def context_of(tokenizer, text: bytes) -> np.ndarray:
    return tokenizer.encode(text).ids.astype(np.int64)


@pytest.mark.parametrize("built", [False, True])
def test_the_longest_match_that_goes_on_is_continued(corpus, make, tokenizer, built):
    corpus.add(
        [make("story", STORY, "A story"), make("end", b"and wrote each name"), make("x", long_text(1))]
    )
    if built:
        build(corpus, ENCODER)
    context = context_of(tokenizer, b"somebody came and wrote each name")
    found = continue_text([corpus], context, ContinuationQuery(longest=32, length=5))
    # Another document ends with these very words: there is nothing after them.
    (only,) = found.continuations
    (place,) = only.occurrences
    document = place.document
    assert document.head.document == "story"
    assert found.matched == place.at - place.start == len(context_of(tokenizer, b" and wrote each name"))
    assert document.data[document.starts[place.start] : document.starts[place.at]] == b" and wrote each name"
    assert STORY.partition(b" and wrote each name")[2].startswith(only.text)
    assert only.text == document.data[document.starts[place.at] : document.starts[place.end]]
    assert only.tokens.tolist() == document.tokens[place.at : place.at + 5].tolist()
    corpus.delete(["story"])
    after = continue_text([corpus], context, ContinuationQuery(longest=32, length=5))
    assert "story" not in {p.document.head.document for c in after.continuations for p in c.occurrences}


def test_parts_are_looked_into_together_and_what_is_frequent_comes_first(corpus, make, tokenizer):
    words = b"once upon a time there was a %s who slept"
    corpus.add([make(f"cat-{n}", words % b"cat") for n in range(3)] + [make("dog", words % b"dog")])
    build(corpus, ENCODER)
    corpus.add([make("late-cat", words % b"cat"), make("late-owl", words % b"owl")])
    context = context_of(tokenizer, b"once upon a time there was a")
    found = continue_text([corpus], context, ContinuationQuery(3, 32, 6))
    assert found.occurrences == 6
    assert [c.count for c in found.continuations] == [4, 1, 1]
    assert {p.document.head.document for p in found.continuations[0].occurrences} == {
        "cat-0", "cat-1", "cat-2", "late-cat",
    }  # fmt: skip
    assert [
        c.count for c in continue_text([corpus], context, ContinuationQuery(3, 32, 6, 1)).continuations
    ] == [4]
    # A longer match in memory outdoes a shorter one in a segment.
    owl = context_of(tokenizer, b"once upon a time there was a owl")
    (only,) = continue_text([corpus], owl, ContinuationQuery(3, 32)).continuations
    assert [p.document.head.document for p in only.occurrences] == ["late-owl"]


@pytest.mark.parametrize("context", [b"a", b"zebras of glass", b""])
def test_what_stands_nowhere_or_is_too_short_has_no_continuation(corpus, make, tokenizer, context):
    assert continue_text([corpus], context_of(tokenizer, context), ContinuationQuery()).continuations == ()
    corpus.add([make("story", STORY)])
    found = continue_text([corpus], context_of(tokenizer, context), ContinuationQuery(8, 16))
    assert (found.matched, found.occurrences, found.continuations) == (0, 0, ())


def test_a_deleted_last_match_of_one_token_ends_the_search(corpus, make):
    corpus.add([make("a", b"qqqq")])
    corpus.delete(["a"])
    (part,) = [p for p in corpus.view().parts if p.entries]
    context = part.document(0).tokens[:1]
    assert part.suffix(np.asarray(context), 1, 1, 10) == (0, [])


@pytest.mark.parametrize("built", [False, True])
def test_a_prompt_that_breaks_off_gets_the_passage_it_stands_in(corpus, make, tokenizer, built):
    corpus.add([make(f"d{n}", long_text(n)) for n in range(6)] + [make("story", STORY), make("copy", STORY)])
    if built:
        build(corpus, ENCODER)
    text = long_text(3).decode()
    found = search([corpus], text, [ENCODER.encode([text])[0]], 4, SearchMode.HYBRID)
    names = [(h.source.document.head.document, h.source.passage) for h in found.hits]
    assert {name for name, _ in names} == {"d3"}
    word = STORY.index(b" wrote") + len(b" wrote")
    for end in (word, word - 2, word + 1):  # at a word's end, within the word, and after the space behind it
        prompt = STORY[:end]
        tail = context_of(tokenizer, prompt)[-32:]
        assert len(tail) > CERTAIN
        more = with_continuations(found, [corpus], tail.tolist())
        assert more.hits[: len(found.hits)] == found.hits
        added = more.hits[len(found.hits) :]
        assert 1 <= len(added) <= ADDED
        assert more.views == found.views
        for hit in added:
            assert hit.score == found.hits[-1].score
            owners = [hit.source, *hit.owners]
            assert {p.document.head.document for p in owners} == {"story", "copy"}
        first = added[0].source
        assert first.passage == context_of(tokenizer, STORY[: word - 6]).size // first.document.passage_tokens
    again = with_continuations(more, [corpus], tail.tolist()).hits
    assert again[: len(more.hits)] == more.hits
    digests = [hit.source.document.digest(hit.source.passage) for hit in again]
    assert len(set(digests)) == len(digests)  # what is a hit already is not added
    corpus.delete(["story", "copy"])
    assert with_continuations(found, [corpus], tail.tolist()).hits == found.hits


def test_nothing_is_added_where_nothing_matches(corpus, make, tokenizer):
    corpus.add([make("story", STORY)])
    found = search([corpus], "zebra", [ENCODER.encode(["zebra"])[0]], 4, SearchMode.SPARSE)
    assert not found.hits
    short = context_of(tokenizer, STORY)[: CERTAIN - 1].tolist()
    other = context_of(tokenizer, long_text(5))[:32].tolist()
    for tail in ([], short, other):
        assert (
            with_continuations(found, [corpus], tail) is found
            or not with_continuations(found, [corpus], tail).hits
        )
    whole = context_of(tokenizer, STORY)[: CERTAIN + 4].tolist()
    (first, *_) = with_continuations(found, [corpus], whole).hits
    assert (first.source.document.head.document, first.score) == ("story", 1.0)
