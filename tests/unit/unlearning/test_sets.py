"""Data sets of a request, as sequences: bounded before they are made."""

import pytest

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.metrics.items import Text
from services.unlearning.removal import sets
from services.unlearning.removal.sets import DataSet, encode_set


class Words:
    """A tokenizer that gives every word a number."""

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [len(word) for word in text.split()]}

    def encode(self, text: str, **_: object) -> list[int]:
        return [len(word) for word in text.split()]


def documents(*texts: str) -> DataSet:
    each = tuple(Text(f"d{at}", text) for at, text in enumerate(texts))
    return DataSet("plan.forget", "sha256:0", each, ())


def test_long_documents_are_cut_so_that_each_token_but_the_first_is_predicted_once():
    made = encode_set(documents("a bb ccc dddd eeeee"), Words(), 3)
    assert [example.ids for example in made.examples] == [(1, 2, 3), (3, 4, 5)]


@pytest.mark.parametrize(("bound", "value"), [("MOST_EXAMPLES", 3), ("MOST_TOKENS", 8)])
def test_more_than_a_request_may_have_is_refused_before_it_is_made(monkeypatch, bound, value):
    monkeypatch.setattr(sets, bound, value)
    fits = encode_set(documents("a bb ccc dddd"), Words(), 2)
    assert len(fits.examples) == 3
    with pytest.raises(InvalidArgument) as refused:
        encode_set(documents("a bb ccc dddd eeeee", "a bb ccc dddd"), Words(), 2)
    assert refused.value.reason == Reason.DATASET_INVALID
    assert "split" in refused.value.message
