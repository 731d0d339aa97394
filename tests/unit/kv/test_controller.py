"""The controller: in time if it can be, as good as time allows, and never much worse than the simple ways."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.errors import InvalidArgument
from palimpsest.kv.controller import Controller
from palimpsest.kv.plan import Chunk, Load, Option, Receipt
from palimpsest.kv.simulation import Trace, play, play_fixed, play_in_order
from tests.kv_references import paper_rule, shared_rule

TEXT_SECONDS, RAW_BYTES = 1.0, 1_000_000
LEVELS = (
    ("u8", 0.5, 0.0001),
    ("high", 0.08, 0.0055),
    ("balanced", 0.063, 0.0105),
    ("smallest", 0.037, 0.035),
)


def load(chunks: int = 10, deadline: float = 0.5, **more) -> Load:
    options = tuple(
        Option(name, int(share * RAW_BYTES / chunks), loss, 0.05 * TEXT_SECONDS / chunks)
        for name, share, loss in LEVELS
    )
    return Load((Chunk(200, TEXT_SECONDS / chunks, options),) * chunks, deadline, **more)


bandwidths = st.floats(0.02, 10).map(lambda share: share * RAW_BYTES)


@given(
    rates=st.lists(bandwidths, min_size=1, max_size=8),
    hold=st.floats(0.02, 0.5),
    chunks=st.integers(1, 16),
    deadline=st.floats(0.1, 2),
    mode=st.sampled_from(["quality", "delay"]),
)
@settings(max_examples=150, deadline=None)
def test_every_chunk_is_handled_once_and_text_is_a_prefix(rates, hold, chunks, deadline, mode):
    outcome = play(load(chunks, deadline, mode=mode), Trace(tuple(rates), hold))
    # A decision commits whichever lane asked; the chunk is new in exactly one of its two fields.
    controller = Controller(load(chunks, deadline, mode=mode))
    assert controller.back == chunks
    assert 0 < outcome.finish < float("inf")
    assert len(outcome.decisions) >= chunks
    assert outcome.loss <= 0.035 + 1e-9


@given(share=st.floats(0.02, 10), chunks=st.integers(2, 16))
@settings(max_examples=100, deadline=None)
def test_never_worse_than_all_text_or_the_coarsest_level_by_more_than_a_chunk(share, chunks):
    trace = Trace((share * RAW_BYTES,), 1.0)
    tight = load(chunks, 0.001, mode="delay", loss_budget=1.0)
    coarsest = play_fixed(tight, trace, lambda number, rate: 3).finish
    one_chunk = (
        max(TEXT_SECONDS, 0.5 * RAW_BYTES / trace.values[0]) / chunks
        if share < 0.05
        else TEXT_SECONDS / chunks
    )
    assert play(tight, trace).finish <= min(TEXT_SECONDS, coarsest) + one_chunk + 1e-9


@given(first=st.floats(0.05, 8), more=st.floats(1.3, 8))
@settings(max_examples=80, deadline=None)
def test_twice_the_bandwidth_never_means_clearly_worse_quality(first, more):
    losses = [
        play(load(10, 0.4, bandwidth=share * RAW_BYTES), Trace((share * RAW_BYTES,), 1.0)).loss
        for share in (first, first * more)
    ]
    assert losses[1] <= losses[0] + 0.004


def test_with_all_the_time_in_the_world_everything_is_exact():
    outcome = play(load(8, 10.0), Trace((RAW_BYTES,), 1.0))
    assert outcome.loss == 0
    assert outcome.fetched == 0


def test_without_a_compute_lane_everything_is_fetched():
    outcome = play(load(8, 0.3, recompute=False), Trace((RAW_BYTES,), 1.0))
    assert outcome.fetched > 0
    assert all(decision.recompute is None for decision in outcome.decisions)


def test_other_loads_make_recomputing_dearer():
    alone, shared = (
        max(decision.recompute or 0 for decision in outcome.decisions)
        for outcome in (play(load(10, 0.3, sharers=n), Trace((0.2 * RAW_BYTES,), 1.0)) for n in (1, 8))
    )
    assert shared < alone


@pytest.mark.parametrize("after", [0.05, 0.1, 0.2, 0.3])
def test_a_sudden_drop_to_a_tenth_costs_at_most_a_chunk(after):
    dropped = play(load(10, 0.5), Trace((0.5 * RAW_BYTES, 0.05 * RAW_BYTES), after))
    possible = play(
        load(10, 0.01, mode="delay", loss_budget=1.0), Trace((0.5 * RAW_BYTES, 0.05 * RAW_BYTES), after)
    )
    assert dropped.finish <= max(0.5, possible.finish) + TEXT_SECONDS / 10


def test_two_lanes_break_fewer_deadlines_than_the_published_rule():
    late = {"controller": 0, "rule": 0}
    for seed in range(60):
        trace = Trace.drawn(seed, 0.002 * RAW_BYTES, 0.2 * RAW_BYTES, 0.1)
        job = load(10, 0.6)
        late["controller"] += play(job, trace).finish > job.deadline
        late["rule"] += play_fixed(job, trace, shared_rule(job, range(4))).finish > job.deadline
    assert late["controller"] < 0.5 * late["rule"]


def test_the_same_inputs_give_the_same_decisions_with_their_reasons():
    runs = [play(load(6, 0.4), Trace.drawn(3, 1e5, 2e6, 0.05)) for _ in range(2)]
    assert runs[0] == runs[1]
    decision = runs[0].decisions[-1]
    assert decision.bandwidth > 0
    assert decision.level in {name for name, *_ in LEVELS}


def test_stale_decisions_and_impossible_loads_are_refused():
    controller = Controller(load(4, 0.1, bandwidth=RAW_BYTES))
    decision = controller.decide(0.0)
    controller.fetching(decision, 0.0)
    controller.received(Receipt(1000, 0.01))
    for wrong in (
        lambda: controller.fetching(decision, 0.0),
        lambda: Load((), 1.0),
        lambda: load(3, 0.0),
        lambda: load(3, 1.0, sharers=0),
    ):
        with pytest.raises(InvalidArgument):
            wrong()


def test_a_chunk_that_comes_sooner_than_feared_frees_the_network():
    controller = Controller(load(8, 0.25, bandwidth=0.02 * RAW_BYTES))
    controller.recomputing(controller.decide(0.0), 0.0)
    option = controller.fetching(controller.decide(0.0), 0.0)
    # Predicted to take most of a second; the link is better than that, if not as good as one would like.
    controller.received(Receipt(option.size, option.size / (0.05 * RAW_BYTES)))
    again = controller.decide(0.1)
    assert again.fetch == 6
    assert again.finish < 0.8 * TEXT_SECONDS


def test_plans_go_by_the_receivers_own_decoding():
    job = load(8, 0.6, bandwidth=2 * RAW_BYTES)
    controller = Controller(job)
    assert controller.decide(0.0).fetch == 7
    for _ in range(8):  # three times slower than recomputing
        controller.decoded(7, "u8", 3 * TEXT_SECONDS / 8)
    decision = controller.decide(0.0)
    assert decision.fetch is None
    assert decision.finish == pytest.approx(TEXT_SECONDS)


def test_recomputing_waits_for_the_decoding_of_what_was_sent():
    """One processor does both: with two chunks sent and not decoded, recomputing the third ends that much later."""
    options = (Option("high", 1000, 0.01, decode=0.4),)
    controller = Controller(Load((Chunk(100, 0.2, options),) * 3, 10.0, bandwidth=4000 / 0.75))
    for chunk in (2, 1):
        controller.fetching(replace(controller.decide(0.0), fetch=chunk, level="high"), 0.0)
    assert controller.decide(0.0).finish == pytest.approx(0.2 + 2 * 0.4)
    controller.decoded(2, "high", 0.0)
    assert controller.decide(0.0).finish == pytest.approx(0.2 + 0.4)
    controller.lost(1)
    # What is on its way still has to arrive.
    assert controller.decide(0.0).finish == pytest.approx(0.5)


def test_what_the_receiver_recomputes_by_itself_is_not_fetched():
    controller = Controller(load(4, 0.3, bandwidth=RAW_BYTES))
    controller.fetching(controller.decide(0.0), 0.0)
    level = controller.decide(0.0).level
    controller.taken(0, None, 0.0)
    assert (controller.front, controller.back) == (1, 3)
    assert controller.compute_free == pytest.approx(TEXT_SECONDS / 4)
    lost = controller.losses
    assert lost > 0
    controller.taken(3, level, 0.0)
    assert controller.losses == pytest.approx(0.0)
    assert (controller.front, controller.back) == (1, 3)
    assert controller.compute_free == pytest.approx(TEXT_SECONDS / 2)


def test_a_chunk_in_several_receipts_counts_once():
    runs = []
    for parts in (1, 4):
        controller = Controller(load(8, 0.4, bandwidth=0.2 * RAW_BYTES))
        option = controller.fetching(controller.decide(0.0), 0.0)
        size = option.size // 4 * 4
        for _ in range(parts):
            controller.received(Receipt(size // parts, 0.05 / parts))
        controller.received(Receipt(option.size - size + 1, 1e-9))
        runs.append(controller._on_way)
    assert runs == [0, 0]


def test_a_small_gain_is_not_bought_with_a_close_finish():
    # What is left fits at u8, just so; "high" is half a percent worse and there in a sixth of the time.
    job = load(10, 1.0, bandwidth=0.75 * RAW_BYTES, recompute=False)
    assert Controller(job).decide(0.0).level == "high"
    assert Controller(load(10, 10.0, bandwidth=RAW_BYTES, recompute=False)).decide(0.0).level == "u8"


def test_the_papers_rule_takes_text_then_quality_then_speed():
    levels = range(4)
    ample, tight = load(10, 1.1), load(10, 0.5, bandwidth=0.2 * RAW_BYTES)
    assert paper_rule(ample, levels)(0, 0.0, 1.0) is None
    rule = paper_rule(tight, levels)
    assert rule(0, 0.0, 1.1 * RAW_BYTES) == 0
    assert rule(0, 0.0, 0.2 * RAW_BYTES) == 1
    assert rule(0, 0.4, 0.2 * RAW_BYTES) == 3
    assert rule(9, 0.39, 0.0001 * RAW_BYTES) is None
    assert paper_rule(load(10, 0.5), levels)(0, 0.0, 0.0) == 2


def test_in_order_a_policy_is_told_what_the_last_chunk_measured():
    told = []

    def choose(number: int, now: float, measured: float) -> int:
        told.append((now, measured))
        return 1

    trace = Trace((RAW_BYTES, 0.5 * RAW_BYTES), 0.008)  # 8,000 bytes a chunk
    outcome = play_in_order(load(10), trace, choose)
    assert told[0] == (0.0, 0.0)
    assert told[1] == pytest.approx((0.008, RAW_BYTES))
    assert told[2] == pytest.approx((0.024, 0.5 * RAW_BYTES))
    assert outcome.finish == pytest.approx(0.008 + 9 * 0.016 + 0.005)
    assert outcome.fetched == 80_000


@pytest.mark.parametrize(("budget", "level"), [(1e-6, "u8"), (0.006, "high"), (1.0, "smallest")])
def test_a_budget_that_no_level_keeps_to_gets_the_finest_and_says_so(budget, level):
    decision = Controller(load(4, mode="delay", loss_budget=budget, recompute=False, bandwidth=1e5)).decide(
        0.0
    )
    assert decision.level == level
    assert decision.within_budget == (budget > 1e-6)


def test_what_can_be_recomputed_keeps_to_any_budget():
    decision = Controller(load(4, mode="delay", loss_budget=1e-6, bandwidth=1e5)).decide(0.0)
    assert (decision.fetch, decision.within_budget) == (None, True)
