"""A holdout set is unseen and as long as what is to be forgotten, or that is told."""

import json
import random

import pytest

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.metrics.items import Pair, Text
from services.unlearning.removal.datasets.holdout import (
    MOST_DOCUMENTS,
    LengthMatch,
    length_match,
    require_unseen,
    seen_in_training,
)
from services.unlearning.removal.datasets.sets import DataSet, EncodedSet, encode_set
from services.unlearning.removal.measuring import MOST_ITEMS
from tests.unit.unlearning.test_sets import Words


def sentence(seed, words=40):
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefgh", k=6)) for _ in range(words))


def data_set(field, *texts, questions=()):
    documents = tuple(Text(f"{field}-{at}", text) for at, text in enumerate(texts))
    pairs = tuple(Pair(f"{field}-q{at}", *pair) for at, pair in enumerate(questions))
    return DataSet(field, "sha256:0", documents, pairs)


def seen(**sets):
    found = {field: data_set(field, *texts) for field, texts in sets.items()}
    return [(each.holdout, each.set, each.other, each.share) for each in seen_in_training(found)]


def test_a_text_in_two_sets_is_found_whichever_they_are():
    forget, retain, own = sentence(1), sentence(2), sentence(3)
    assert seen(forget=[forget], retain=[retain], holdout=[own]) == []
    assert seen(forget=[forget], retain=[retain], holdout=[own, forget.upper()]) == [
        ("holdout-1", "forget", "forget-0", 1.0)
    ]
    assert seen(forget=[forget], retain=[own, retain], holdout=[retain]) == [
        ("holdout-0", "retain", "retain-1", 1.0)
    ]
    assert seen(forget=[forget], holdout=[own]) == seen(forget=[forget], retain=[forget]) == []


def test_a_part_of_a_forget_document_is_no_more_unseen_than_the_whole_and_the_other_way_round():
    long = sentence(4, 400)
    part = " ".join(long.split()[100:140])
    assert seen(forget=[long], holdout=[part]) == [("holdout-0", "forget", "forget-0", 1.0)]
    assert seen(forget=[part], holdout=[long]) == [("holdout-0", "forget", "forget-0", 1.0)]


def test_a_line_in_common_is_no_reason():
    boilerplate = sentence(5, 15)
    assert seen(forget=[f"{sentence(6)} {boilerplate}"], holdout=[f"{boilerplate} {sentence(7)}"]) == []


def test_a_question_about_a_holdout_document_is_found_in_it():
    found = {
        "forget": data_set("forget", questions=[(sentence(8, 10), sentence(9, 10))]),
        "holdout": data_set("holdout", f"{sentence(8, 10)} {sentence(9, 10)}"),
    }
    assert [(each.holdout, each.other) for each in seen_in_training(found)] == [("holdout-0", "forget-q0")]


@pytest.mark.parametrize(
    ("other", "reason"),
    [("forget", Reason.FORGET_HOLDOUT_OVERLAP), ("retain", Reason.HOLDOUT_RETAIN_OVERLAP)],
)
def test_what_was_seen_is_refused_by_its_ids(other, reason):
    text = sentence(10)
    sets = {"forget": [sentence(11)], "holdout": [text], other: [text]}
    pairs = seen_in_training({field: data_set(field, *texts) for field, texts in sets.items()})
    with pytest.raises(InvalidArgument) as refused:
        require_unseen(pairs)
    assert refused.value.reason == reason
    assert refused.value.violations[0].field == "plan.holdout"
    assert json.loads(refused.value.metadata["overlaps"]) == [["holdout-0", f"{other}-0"]]
    assert not any(word in str(refused.value) for word in text.split())
    require_unseen(())


def encoded(**sets) -> dict[str, EncodedSet]:
    return {
        field: encode_set(data_set(field, *(" ".join(["w"] * length) for length in lengths)), Words(), 512)
        for field, lengths in sets.items()
    }


def test_lengths_of_what_membership_is_measured_on_are_compared():
    draw = random.Random(0)
    alike = [draw.randint(20, 200) for _ in range(120)]
    shuffled = draw.sample(alike, len(alike))
    longer = [length + 60 for length in alike]
    assert length_match(encoded(forget=alike, holdout=shuffled), 0) == LengthMatch(1.0, 240)
    apart = length_match(encoded(forget=alike, holdout=longer), 0)
    assert apart is not None
    assert not apart.matched
    # Of both sets the model reads twenty tokens of a document.
    cut = length_match(encoded(forget=alike, holdout=longer), 20)
    assert cut is not None
    assert cut.matched


def test_as_many_are_compared_as_are_measured():
    assert MOST_DOCUMENTS == MOST_ITEMS
    many = [20] * (MOST_DOCUMENTS + 50)
    assert length_match(encoded(forget=many, holdout=[20] * 3), 0) == LengthMatch(1.0, MOST_DOCUMENTS + 3)


def test_without_documents_nothing_is_compared():
    questions = {"forget": encode_set(data_set("forget", questions=[("a b", "c")]), Words(), 512)}
    assert length_match(questions | encoded(holdout=[20, 30]), 0) is None
    assert length_match(encoded(forget=[20, 30]), 0) is None
