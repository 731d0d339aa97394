"""Batches: padding that counts nowhere, and an order that every example passes through."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.errors import InvalidArgument
from palimpsest.training import Example, Order, collate, counts, derived_seed

quick = settings(max_examples=80, deadline=None, derandomize=True)


def test_rows_are_padded_on_the_right_and_padding_never_counts():
    pad = 5  # a token of the text as well
    rows = [
        Example((5, 5, 7), (True, True, True), "a"),
        Example((5,), (True,)),
        Example((1, 2), (False, True)),
    ]
    batch = collate(rows, [2, 0, 1], pad)
    assert batch.ids.tolist() == [[1, 2, 5], [5, 5, 7], [5, 5, 5]]
    assert batch.attention.tolist() == [[1, 1, 0], [1, 1, 1], [1, 0, 0]]
    assert batch.counted.tolist() == [[False, True, False], [False, True, True], [False, False, False]]
    assert batch.items.tolist() == [2, 0, 1]
    assert counts(batch).tolist() == [1, 2, 0]


def test_the_first_token_never_counts():
    assert Example((1, 2), (True, True)).counted == (False, True)


@pytest.mark.parametrize(("ids", "counted"), [((), ()), ((1, 2), (True,))])
def test_an_example_has_a_mask_of_its_length(ids, counted):
    with pytest.raises(InvalidArgument) as caught:
        Example(ids, counted)
    assert caught.value.reason == "TRAINING_DATA_INVALID"


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(InvalidArgument) as caught:
        collate([Example((1, 2), (False, True))], [], 0)
    assert caught.value.reason == "TRAINING_DATA_EMPTY"


@quick
@given(
    count=st.integers(1, 40),
    batch=st.integers(1, 45),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 5),
)
def test_every_epoch_has_every_example_once(count, batch, seed, epoch):
    order = Order(count, batch, seed)
    first = epoch * order.steps_per_epoch
    steps = [order.at(step) for step in range(first, first + order.steps_per_epoch)]
    assert sorted(index for step in steps for index in step) == list(range(count))
    assert all(len(step) == min(batch, count) for step in steps[:-1])
    assert 1 <= len(steps[-1]) <= batch


def test_a_step_depends_on_nothing_but_seed_and_step():
    forwards = [Order(30, 4, 9).at(step) for step in range(40)]
    order = Order(30, 4, 9)
    assert [order.at(step) for step in reversed(range(40))] == forwards[::-1]
    assert [Order(30, 4, 10).at(step) for step in range(40)] != forwards


def test_the_shuffles_are_uniform():
    """Of 4 examples, each of the 24 orders comes up: 4800 epochs, 200 each, and 6 standard deviations are 83."""
    order = Order(4, 4, 1)
    seen = Counter(tuple(order.at(epoch)) for epoch in range(4800))
    assert len(seen) == 24
    assert all(abs(times - 200) < 83 for times in seen.values())


def test_seeds_for_one_purpose_are_those_of_no_other():
    keys = [(7,), (7, 0), (7, 0, 0), (0, 7), (70,), (7, "0"), (7, "step", 1), (7, "step1"), (71,)]
    seeds = [derived_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(7, "step", 1) == derived_seed(7, "step", 1)


@pytest.mark.parametrize(
    ("count", "batch", "reason"), [(0, 1, "TRAINING_DATA_EMPTY"), (3, 0, "TRAINING_RECIPE_INVALID")]
)
def test_no_examples_or_no_batch(count, batch, reason):
    with pytest.raises(InvalidArgument) as caught:
        Order(count, batch, 0)
    assert caught.value.reason == reason
