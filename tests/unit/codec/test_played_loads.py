"""Loads over bad links, played: no later than the text alone and a chunk. ``make bench-codec`` plays two hundred."""

import pytest

from palimpsest.api.codec.v1 import codec_pb2 as pb
from tests.played_loads import KINDS, RAW, Bad, drawn, load, play, stored

TOKENS, TEXT = 4000, 8.0
SETTINGS = pb.LoadSettings(
    recompute=[pb.RecomputePoint(tokens=TOKENS, seconds=TEXT)], decode_tokens_per_second=5000
)
TIE = RAW * TOKENS / TEXT


def played(rates: tuple[float, ...], hold: float = 1.0, **more):
    context, ids = stored(TOKENS, 512)
    return play(load(context, ids, SETTINGS, Bad(tuple(rate * TIE for rate in rates), hold, **more)))


@pytest.mark.parametrize("seed", range(2 * len(KINDS)))
def test_a_load_is_no_later_than_the_text_and_a_chunk(seed):
    _, outcome = drawn(seed)
    assert outcome.late <= 0, outcome


@pytest.mark.parametrize("share", [1e-4, 1e-3, 1e-2])
def test_on_a_slow_link_the_compute_lane_never_idles(share):
    outcome = played((share,))
    assert outcome.levels[:6] == ("recompute",) * 6
    assert outcome.seconds <= 1.1 * TEXT


def test_a_link_that_ends_costs_what_the_text_would_have():
    outcome = played((0.05, 0.0), hold=0.5)
    assert "recompute" in outcome.levels
    assert outcome.seconds <= 1.1 * TEXT


@pytest.mark.parametrize("delay", [0.0005, 0.02, 0.05])
def test_a_good_link_is_not_held_up_near_or_far(delay):
    outcome = played((0.7,), delay=delay)
    # A link so far that it shows nothing for a tenth of a second counts as slow for one chunk.
    assert outcome.levels.count("recompute") == (delay == 0.05)
    assert outcome.seconds < 0.25 * TEXT


def test_a_slow_decoder_is_found_out_by_the_first_chunk():
    outcome = played((1.0,), decoding=50.0)
    assert set(outcome.levels) == {"recompute"}
    assert outcome.loss == 0
    assert outcome.late < 0
