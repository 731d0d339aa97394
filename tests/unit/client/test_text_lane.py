"""The receiver's compute lane: at work when the stream is slower than the text, and never later than it by much."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.client.text_lane import EARLY, SLACK, TextLane


def test_it_waits_for_a_stream_that_keeps_up_and_goes_on_when_it_does_not():
    lane = TextLane([1.0] * 4, 0, began=10.0)
    assert lane.wait(10.0) == pytest.approx(4 * SLACK)
    assert lane.take(10.1) == []
    assert lane.arrive(3)
    assert lane.wait(10.5) == pytest.approx(1 + 4 * SLACK - 0.5)
    assert lane.take(11.4) == [0]
    assert lane.wait(11.4) is None, "it is at work"
    lane.recomputed(0, 1.0)
    assert lane.take(12.4) == [1, 2], "nothing has arrived meanwhile"


def test_it_takes_twice_as_many_while_nothing_arrives_and_begins_again_when_something_does():
    lane, now, rows = TextLane([1.0] * 20, 0, began=0.0), 3.0, []
    for arrives in (False, False, True, False):
        rows.append(row := lane.take(now))
        for chunk in row:
            lane.recomputed(chunk, 1.0)
        if arrives:
            assert lane.arrive(19)
            now += 1.0
        now += len(row)
    assert rows == [[0], [1, 2], [3, 4, 5, 6], [7]]


def test_a_row_ends_where_a_chunk_is_there():
    lane = TextLane([1.0] * 4, 0, began=0.0)
    assert lane.take(1.0) == [0]
    lane.recomputed(0, 1.0)
    lane._run = 4
    assert lane.order(2)
    assert lane.take(2.0) == [1]


def test_what_is_held_is_not_recomputed():
    lane = TextLane([1.0] * 4, 2, began=0.0)
    assert lane.text == 2.0
    assert lane.take(1.0) == [2]
    assert lane.take_rest() == [3]
    assert not lane.complete
    for chunk in (2, 3):
        lane.recomputed(chunk, 1.0)
    assert lane.complete


def test_a_chunk_comes_once_whoever_is_first():
    lane = TextLane([1.0] * 3, 0, began=0.0)
    assert lane.order(0)
    assert not lane.order(0)
    assert not lane.arrive(0), "it is being recomputed"
    assert lane.arrive(2)
    assert not lane.arrive(2)
    assert lane.take_rest() == [1]
    assert not lane.order(1)


def test_an_order_out_of_turn_does_not_keep_it_waiting():
    lane = TextLane([1.0] * 3, 0, began=0.0)
    assert lane.order(2)
    assert lane.take(1.0) == [0]


def test_a_model_faster_than_expected_waits_less():
    lane = TextLane([1.0] * 4, 0, began=0.0)
    lane.order(0)
    lane.recomputed(0, 0.1)
    assert lane.text == pytest.approx(0.4)
    assert lane.wait(0.1) == pytest.approx(0.4 * SLACK)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    seconds=st.lists(st.floats(0.01, 3.0), min_size=1, max_size=12),
    pace=st.sampled_from([1.0, 1.0, 2.0, 0.5]),
    seed=st.integers(0, 10_000),
    orders=st.booleans(),
)
def test_it_ends_with_the_text_whatever_comes(seconds, pace, seed, orders):
    """Chunks come from the back at times drawn at random, or never; orders from the front, or none."""
    draw = random.Random(seed)
    lane, now, text = TextLane(seconds, 0, began=0.0), 0.0, pace * sum(seconds)
    left = set(range(len(seconds)))
    came, at = [], 0.0
    for chunk in reversed(range(len(seconds))):
        at += draw.choice([0.1, 1.0, 5.0, math.inf]) * draw.random() * seconds[chunk]
        came.append((at, chunk))
    while left:
        for at, chunk in came:
            if at <= now and lane.arrive(chunk):
                left.discard(chunk)
        if not left:
            break
        row = lane.take(now)
        assert row == list(range(row[0], row[0] + len(row))) if row else True
        if not row and orders and draw.random() < 0.3 and min(left) not in lane._ordered:
            row = [min(left)]
            assert lane.order(row[0])
        if not row:
            waits = [lane.wait(now), *(at - now for at, chunk in came if at > now and chunk in left)]
            now += max(EARLY / 2, min(each for each in waits if each is not None))
            continue
        for chunk in row:
            now += pace * seconds[chunk]
            left.discard(chunk)
            lane.recomputed(chunk, pace * seconds[chunk])
    assert lane.complete
    # A model that is faster than expected is not known to be before its first chunk.
    assert now <= (1 + SLACK) * max(text, sum(seconds)) + len(seconds) * EARLY
