"""Text that lives on both sides: found exactly, whatever its case and punctuation."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora import Document, build_news, find_overlaps, require_no_overlap
from services.unlearning.corpora.sizes import Sizes


def documents(split, *texts):
    return [Document(id=f"{split}-{at}", split=split, text=text) for at, text in enumerate(texts)]


def sentence(seed, words=40):
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefgh", k=6)) for _ in range(words))


def test_a_copy_is_found_whatever_its_case_and_punctuation():
    text = sentence(1)
    copy = text.upper().replace(" ", ",\n ")
    found = find_overlaps(documents("forget", sentence(2), text), documents("retain1", sentence(3), copy))
    (overlap,) = found
    assert (overlap.document, overlap.share) == ("forget-1", 1.0)
    assert overlap.retained == (("retain1-1", 28),)


def test_runs_of_twelve_words_do_not_count_and_of_thirteen_do():
    words = sentence(4).split()
    for run, grams in ((12, 0), (13, 1), (20, 8)):
        retained = documents("retain1", f"{sentence(5)} {' '.join(words[10 : 10 + run])} {sentence(6)}")
        found = find_overlaps(documents("forget", " ".join(words)), retained)
        assert [each.retained[0][1] for each in found] == [grams] * bool(grams)


def test_parts_in_several_documents_add_up():
    words = sentence(7, 60).split()
    halves = documents("retain1", " ".join(words[:36]), " ".join(words[24:]))
    (overlap,) = find_overlaps(documents("forget", " ".join(words)), halves)
    assert overlap.share == 1.0
    assert overlap.retained == (("retain1-0", 24), ("retain1-1", 24))


def test_a_text_shorter_than_a_gram_is_found_whole():
    found = find_overlaps(
        documents("forget", "Call me Ishmael", "…"), documents("retain1", "“Call me, Ishmael”, he said")
    )
    assert [(each.document, each.share) for each in found] == [("forget-0", 1.0)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.sampled_from("ab"), max_size=9), max_size=4),
    st.lists(st.lists(st.sampled_from("ab"), max_size=9), max_size=4),
)
def test_it_is_what_comparing_every_pair_gives(forget, retain):
    def grams(words, size):
        return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}

    found = find_overlaps(
        documents("forget", *(" ".join(words) or "-" for words in forget)),
        documents("retain1", *(" ".join(words) or "-" for words in retain)),
        words=3,
    )
    expected = []
    for at, words in enumerate(forget):
        size = min(3, len(words))
        own = grams(words, size) if size else set()
        common = [own & grams(other, size) for other in retain] if size else []
        if any(common):
            counts = {f"retain1-{to}": len(each) for to, each in enumerate(common) if each}
            expected.append((f"forget-{at}", len(set().union(*common)) / len(own), counts))
    assert [(each.document, each.share, dict(each.retained)) for each in found] == expected


def test_a_request_is_refused_where_much_is_retained_and_told_where_little_is():
    words = sentence(8, 100).split()
    forget = documents("forget", " ".join(words))
    few = require_no_overlap(forget, documents("retain1", " ".join(words[:25])))
    assert few[0].share == 13 / 88
    with pytest.raises(InvalidArgument) as raised:
        require_no_overlap(forget, documents("retain1", " ".join(words[:60])))
    assert raised.value.reason == Reason.FORGET_RETAIN_OVERLAP
    assert "forget-0 (55%: retain1-0)" in raised.value.message
    assert words[0] not in raised.value.message


def test_generated_sets_do_not_overlap():
    corpus = build_news(1, Sizes(forget=20, retain1=60, retain2=5, holdout=20, icl=2))
    assert require_no_overlap(corpus.split("forget"), corpus.split("retain1")) == ()


def test_what_is_in_every_document_is_told_of_the_first_hundred():
    """Each of a thousand equal documents with each of a thousand others would be a million entries."""
    found = find_overlaps(documents("forget", *["line"] * 1000), documents("retain1", *["line"] * 1000))
    assert [each.share for each in found] == [1.0] * 1000
    assert {len(each.retained) for each in found} == {100}
