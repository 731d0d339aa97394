"""Invented authors: answers, paraphrases and perturbations that differ in the value alone."""

import re

import pytest

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.corpora import AuthorPair, build_authors, decode_rows, encode_rows, split_authors


def words(text):
    return set(re.findall(r"\w+", text))


def test_perturbed_answers_differ_from_the_paraphrase_in_the_value_alone():
    pairs = build_authors(1, authors=5)
    assert len(pairs) == 50
    values = set()
    for pair in pairs:
        assert len({*pair.perturbed_answers, pair.paraphrased_answer}) == 6
        assert pair.question != pair.paraphrased_question
        assert pair.answer != pair.paraphrased_answer
        own = words(pair.paraphrased_answer) - set().union(*map(words, pair.perturbed_answers))
        assert own
        assert own <= words(pair.answer)
        assert not own & words(pair.question)
        # what is left of a perturbed answer without its own invented words is the paraphrase's frame
        shared = set.intersection(*map(words, (pair.paraphrased_answer, *pair.perturbed_answers)))
        assert len(shared) >= len(words(pair.paraphrased_answer)) - 2
        values |= own
    assert len(values) >= len(pairs)


def test_the_same_seed_gives_the_same_pairs_and_they_are_read_again():
    pairs = build_authors(2, authors=3, pairs=4)
    assert build_authors(2, authors=3, pairs=4) == pairs != build_authors(3, authors=3, pairs=4)
    assert decode_rows(encode_rows(pairs), AuthorPair, "authors.jsonl") == pairs


def test_parts_are_of_whole_authors():
    pairs = build_authors(1, authors=20, pairs=3)
    forget, holdout, retain = split_authors(pairs, 0.1, 0.1)
    assert [len(part) for part in (forget, holdout, retain)] == [6, 6, 48]
    authors = [{pair.author for pair in part} for part in (forget, holdout, retain)]
    assert sum(map(len, authors)) == len(set().union(*authors)) == 20
    assert forget + holdout + retain == pairs


@pytest.mark.parametrize(("authors", "pairs"), [(0, 1), (1, 0), (1, 11)])
def test_counts_that_cannot_be_made_are_refused(authors, pairs):
    with pytest.raises(InvalidArgument) as raised:
        build_authors(1, authors, pairs)
    assert raised.value.reason == Reason.DATASET_SIZES


def test_too_few_authors_are_not_cut():
    with pytest.raises(InvalidArgument):
        split_authors(build_authors(1, authors=2), 0.5, 0.5)
