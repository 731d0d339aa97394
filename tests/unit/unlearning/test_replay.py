"""What a model says by itself: what it knows by heart and is not of the forget set."""

import pytest
import torch

from palimpsest.errors import FailedPrecondition, InvalidArgument
from palimpsest.training.batches import Example
from services.unlearning.algorithms import Inputs
from services.unlearning.algorithms.reference import frozen_copy
from services.unlearning.replay import Replay, replayed
from tests.unit.unlearning.algorithms.conftest import mean, tiny

END = 1
FORGET = [(2, 3, 20, 9, 21, END), (2, 3, 8, 22, 9, END)]
RETAIN = [(2, 3, 10, 5, 6, END), (2, 3, 11, 6, 5, END), (2, 3, 12, 8, 9, END)]
UNSEEN = [(2, 3, 13, 7, 5, 6, END), (2, 3, 14, 5, 7, END), (2, 3, 15, 9, 8, 6, END)]
"""Learnt as well, and in no set that is given. Their words are in no set, or in both."""
SETTINGS = Replay(draws=300, keep=10, tokens=9, prompt=2)


def examples(rows):
    return [Example(row, (True,) * len(row), str(number)) for number, row in enumerate(rows)]


def decode(ids):
    return " ".join(map(str, ids))


@pytest.fixture(scope="module")
def knowing():
    """A model that knows all three by heart."""
    module = tiny(seed=4).float().requires_grad_(True)
    inputs = Inputs(module, examples(FORGET + RETAIN + UNSEEN), batch=8)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for step in range(150):
        optimizer.zero_grad()
        mean(module, inputs.forget_batch(step)).backward()
        optimizer.step()
    return frozen_copy(module)


def said(module, settings=SETTINGS, forget=FORGET, **options):
    given = {"stop": {END}, "seed": 7} | options
    return replayed(module, examples(RETAIN), examples(forget), decode, settings, **given)


def test_what_is_known_by_heart_comes_first_and_nothing_of_the_other_sets(knowing):
    found = [each.ids for each in said(knowing)]
    assert set(found[:3]) == set(UNSEEN)
    assert not set(found) & set(FORGET + RETAIN)
    own = {"20", "21", "22"}
    assert not any(own & set(decode(ids).split()) for ids in found)


def test_without_a_forget_set_its_texts_are_said_too(knowing):
    """So it is the filter that keeps them out."""
    assert set(FORGET) <= {each.ids for each in said(knowing, forget=[])}


def test_four_words_in_a_row_are_enough_to_be_left_out(knowing):
    """All words of this text are in the retain set; in this order they are the forget set's alone."""
    retain = [*examples(RETAIN), Example((13, 7, 14, 15), (True,) * 4, "words")]
    forget = examples([UNSEEN[0]])
    found = [each.ids for each in replayed(knowing, retain, forget, decode, SETTINGS, stop={END}, seed=7)]
    assert UNSEEN[1] in found
    assert UNSEEN[0] not in found


def test_the_same_seed_says_the_same_and_no_more_than_is_asked_is_kept(knowing):
    first, again = said(knowing), said(knowing)
    assert [each.ids for each in first] == [each.ids for each in again]
    fewer = said(knowing, Replay(draws=300, keep=2, tokens=9, prompt=2))
    assert [each.ids for each in fewer] == [each.ids for each in first][:2]
    assert all(all(each.counted[1:]) for each in first)


def test_a_sequence_that_does_not_end_is_dropped(knowing):
    assert said(knowing, stop={28}) == []
    assert max(len(each.ids) for each in said(knowing, Replay(300, 50, 6, 2))) <= 6


def test_nothing_is_said_without_a_text_to_begin_with(knowing):
    assert replayed(knowing, [], examples(FORGET), decode, SETTINGS, stop={END}) == []


def test_a_call_may_be_stopped_between_two_passes(knowing):
    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        said(knowing, check=check)


def test_a_broken_model_says_nothing():
    broken = tiny(seed=4).float()
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    with pytest.raises(FailedPrecondition) as caught:
        said(broken)
    assert caught.value.reason == "METRIC_NOT_FINITE"


@pytest.mark.parametrize("numbers", [(0, 1, 9, 2), (1, 0, 9, 2), (1, 1, 2, 2), (1, 1, 9, 0)])
def test_senseless_numbers_are_refused(numbers):
    with pytest.raises(InvalidArgument) as caught:
        Replay(*numbers)
    assert caught.value.reason == "INVALID_REQUEST"
