"""Background requests: what they take of a step, of memory and of the queue; with a cost model that is given."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from palimpsest.engine import Engine, Failed, Request, Started
from palimpsest.engine.batch import Batch, Counters
from palimpsest.engine.budget import CacheBudget
from palimpsest.engine.costs import StepCost
from palimpsest.engine.external_prefix import ExternalPrefix
from palimpsest.engine.request_state import RequestState
from palimpsest.engine.slack import GUARANTEED_EVERY, GUARANTEED_ROWS, Slack
from palimpsest.errors import InvalidArgument, ResourceExhausted
from palimpsest.lm import Sampling
from palimpsest.lm.blocks import BLOCK, prefix_keys
from tests.waiting import until

from .collecting import Collector, Gate, run


class GivenCost(StepCost):
    """Steps cost what the test says."""

    def __init__(self, cost: Callable[[int, int], float]) -> None:
        super().__init__()
        self._given = cost

    def any_step(self) -> Callable[[int, int], float]:
        return self._given


class Stepped:
    """A batch that is stepped by the test, and the rows of its last step by request."""

    def __init__(self, model, cost: Callable[[int, int], float], factor: float = 1.1, max_running: int = 8):
        self.model = model
        self.budget = CacheBudget(model.limits.cache_blocks)
        self.batch = Batch(model, max_running, self.budget, Counters(), GivenCost(cost), Slack(factor))
        self._forward, self.rows = model.forward, []
        self.states: list[RequestState] = []

    def __enter__(self) -> "Stepped":
        def forward(rows, hidden=()):
            self.rows = list(rows)
            return self._forward(rows, hidden)

        self.model.forward = forward
        return self

    def __exit__(self, *_error: object) -> None:
        self.model.forward = self._forward
        for state in self.states:
            state.cancelled = True
        self.batch.drop_ended()
        self.model.pool.forget_prefixes()

    def add(self, prompt: int, tokens: int = 100, background: bool = False, n: int = 1) -> RequestState:
        ids = [7 + len(self.states), *range(20, 19 + prompt)]
        request = Request(ids, max_tokens=tokens, ignore_eos=True, background=background, n=n)
        blocks = n * (-(-(prompt + tokens) // BLOCK))
        state = RequestState(request, lambda events: None, blocks, prefix_keys(ids[:-1], b""), lambda: None)
        self.states.append(state)
        return state

    def admitted(self, *args, **fields) -> RequestState:
        state = self.add(*args, **fields)
        assert self.batch.admit(state)
        return state

    def step(self) -> int:
        """Run one; returns its rows."""
        self.rows = []
        self.batch.step()
        return sum(row.count for row in self.rows)

    def past_prompts(self) -> None:
        while self.batch.prompts:
            self.step()


def each_row(rows: int, looked_at: int) -> float:
    return float(rows)


def first_rows_are_free(rows: int, looked_at: int) -> float:
    return float(max(rows, 4))


def generated(*states: RequestState) -> list[int]:
    return [sum(sequence.generated for sequence in state.sequences) for state in states]


def test_background_sequences_fill_a_step_up_to_the_factor_the_oldest_first(tiny):
    with Stepped(tiny, first_rows_are_free) as it:
        background = [it.admitted(2, background=True) for _ in range(5)]
        it.past_prompts()
        interactive = [it.admitted(2) for _ in range(2)]
        it.past_prompts()
        before = generated(*interactive, *background)
        assert it.step() == 4  # two more cost nothing; a fifth would cost a quarter more
        assert it.batch.paused == 3
        after = generated(*interactive, *background)
        assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1, 1, 0, 0, 0]


def test_tokens_that_a_background_sequence_attends_to_count(tiny):
    with Stepped(tiny, lambda rows, looked_at: 100 + looked_at, factor=1.5) as it:
        long, short = it.admitted(200, background=True), it.admitted(2, background=True)
        it.past_prompts()
        it.admitted(2)
        it.past_prompts()
        before = generated(long, short)
        it.step()
        assert generated(long, short) == before  # the long one does not fit, and nobody overtakes it


def test_a_factor_of_one_leaves_steps_as_they_are(tiny):
    with Stepped(tiny, each_row, factor=1.0) as it:
        it.admitted(2, background=True)
        it.past_prompts()
        it.admitted(2)
        it.past_prompts()
        assert [it.step() for _ in range(10)] == [1] * 10


def test_a_background_prompt_is_read_in_small_chunks_beside_streams(tiny):
    with Stepped(tiny, lambda rows, looked_at: float(max(rows, 20))) as it:
        it.admitted(2)
        it.past_prompts()
        waiting = it.admitted(100, background=True)
        assert (
            it.step() == 1 + 16
        )  # of at most 22 rows: 64 tokens do not fit, nor does half of them; a quarter does
        assert waiting.cache.length == 16


def test_a_background_prompt_waits_while_an_interactive_one_is_read(tiny):
    with Stepped(tiny, lambda rows, looked_at: 1.0) as it:
        waiting = it.admitted(100, background=True)
        it.admitted(300)
        assert [it.step(), waiting.cache.length] == [256, 0]
        assert [it.step(), waiting.cache.length] == [44, 0]
        assert [it.step(), waiting.cache.length] == [1 + 64, 64]


def test_without_interactive_requests_the_background_runs_at_full_width(tiny):
    with Stepped(tiny, each_row, factor=1.0) as it:
        states = [it.admitted(4, background=True) for _ in range(8)]
        it.past_prompts()
        assert it.step() == 8
        assert it.batch.paused == 0
        assert not it.batch.admit(it.add(4, background=True))
        assert it.batch.running(background=True) == len(states)
        assert it.batch.running() == 0


def test_background_sequences_take_no_slots_of_interactive_ones(tiny):
    with Stepped(tiny, each_row, max_running=2) as it:
        assert all(it.batch.admit(it.add(2, background=True)) for _ in range(2))
        assert all(it.batch.admit(it.add(2)) for _ in range(2))
        assert not it.batch.admit(it.add(2))


def test_a_sequence_without_room_goes_on_after_so_many_steps(tiny):
    with Stepped(tiny, each_row, factor=1.0) as it:
        first, second = it.admitted(2, 600, background=True), it.admitted(2, 600, background=True)
        it.past_prompts()
        it.admitted(2, 700)
        it.past_prompts()
        before = generated(first, second)
        rows = [it.step() for _ in range(2 * GUARANTEED_EVERY + 2)]
        assert sorted(rows)[-3:] == [1, 2, 2]
        assert [b - a for a, b in zip(before, generated(first, second), strict=True)] == [2, 0]


def test_a_prompt_without_room_goes_on_after_so_many_steps(tiny):
    with Stepped(tiny, each_row, factor=1.0) as it:
        it.admitted(2, 700)
        it.past_prompts()
        waiting = it.admitted(100, background=True)
        for _ in range(GUARANTEED_EVERY):
            it.step()
        assert waiting.cache.length == 0
        it.step()
        assert waiting.cache.length == GUARANTEED_ROWS


def test_what_a_step_costs_is_measured_anew_when_it_was_thought_too_dear():
    costs = StepCost()
    for _ in range(20):
        costs.saw_decode(1, 0, 0.010)
        costs.saw_decode(2, 0, 0.030)
    slack = Slack()
    assert slack.room(costs.any_step(), 1, 0).take(1, 0) == 0
    costs.forget(2)
    costs.saw_decode(2, 0, 0.0105)
    assert slack.room(costs.any_step(), 1, 0).take(1, 0) == 1


def test_sizes_that_have_not_run_are_assumed_from_those_that_have():
    costs = StepCost()
    assert costs.any_step()(8, 1000) == 2.0  # nothing is known of attention either
    for rows, seconds in ((1, 0.010), (4, 0.030)):
        costs.saw_decode(rows, 0, seconds)
    cost = costs.any_step()
    assert cost(1, 0) == pytest.approx(0.010)
    assert cost(4, 0) == pytest.approx(0.030)
    assert cost(2, 0) == pytest.approx(0.011)
    assert cost(64, 0) == pytest.approx(0.030 * 3.7 / 1.6)
    assert cost(2000, 0) >= cost(300, 0) > cost(256, 0) > cost(64, 0)


def test_an_interactive_request_takes_the_memory_of_the_latest_background_requests(tiny):
    errors: list[tuple[int, str, float | None]] = []
    with Stepped(tiny, each_row) as it:
        share = tiny.limits.cache_blocks // 4
        states = [it.add(2, background=True) for _ in range(4)]
        for state in states:
            state.blocks = share
            state.deliver = lambda events, s=state: errors.extend(
                (states.index(s), event.error.reason, event.error.retry_after)
                for event in events
                if isinstance(event, Failed)
            )
            assert it.batch.admit(state)
        it.past_prompts()
        wants = it.add(2)
        wants.blocks = 2 * share - 1 + tiny.limits.cache_blocks % 4
        assert it.batch.admit(wants)
        assert errors == [(n, "BACKGROUND_INTERRUPTED", 1.0) for n in (3, 2)]
        assert [state in it.batch.states for state in states] == [True, True, False, False]
        too_much = it.add(2)
        too_much.blocks = tiny.limits.cache_blocks
        assert not it.batch.admit(too_much)
        assert len(errors) == 2  # it would not fit without them either


def test_no_background_request_is_admitted_while_another_waits_for_memory(make_engine):
    engine = make_engine()
    blocks = engine.model.limits.cache_blocks
    large = Request([5] * 20, max_tokens=40, n=int(0.7 * blocks) // 3, ignore_eos=True)
    assert 0.5 * blocks < engine.check(large) < 0.9 * blocks
    engine.max_running = engine._batch.max_running = 2 * large.n
    started: list[str] = []
    collectors = {name: Collector(large.n if name != "small" else 1) for name in ("first", "second", "small")}

    def deliver(name: str):
        def take(events):
            started.extend(name for event in events if isinstance(event, Started))
            collectors[name].deliver(events)

        return take

    gate = Gate(engine)
    engine.submit(large, deliver("first"))
    assert gate.entered.wait(60)
    engine.submit(large, deliver("second"))
    engine.submit(Request([5] * 20, max_tokens=2, background=True, ignore_eos=True), deliver("small"))
    gate.open.set()
    assert all(collector.wait().error is None for collector in collectors.values())
    assert started == ["first", "second", "small"]


def test_a_queue_full_of_background_requests_takes_interactive_ones(make_engine):
    engine = make_engine(queue_limit=2, max_running=1)
    gate = Gate(engine)
    plain = Request([5] * 20, max_tokens=3, ignore_eos=True)
    running = Collector()
    engine.submit(plain, running.deliver)
    assert gate.entered.wait(60)
    waiting = [Collector() for _ in range(4)]
    for collector in waiting[:2]:
        engine.submit(replace(plain, background=True), collector.deliver)
    with pytest.raises(ResourceExhausted) as full:
        engine.submit(replace(plain, background=True), Collector().deliver)
    assert full.value.reason == "ENGINE_QUEUE_FULL"
    assert engine.background == (0, 0, 2)
    for collector in waiting[2:]:
        engine.submit(plain, collector.deliver)
    gate.open.set()
    for collector in [running, *waiting]:
        assert collector.wait().error is None
    until(lambda: engine.idle)
    assert engine.model.pool.used == 0


def test_what_is_generated_does_not_depend_on_the_priorities_beside_it(make_engine):
    engine = make_engine(max_running=16)
    requests = [
        Request(
            [5 + n, *range(20, 20 + 11 * n)], Sampling(1.2, seed=n), n=1 + n % 2, max_tokens=30, logprobs=2
        )
        for n in range(10)
    ]
    alone = [run(engine, request)[0] for request in requests]
    for every in (2, 3):
        engine.model.pool.forget_prefixes()
        together = run(
            engine, *(replace(request, background=n % every == 0) for n, request in enumerate(requests))
        )
        for a, b in zip(alone, together, strict=True):
            assert a.events[1:] == b.events[1:]


def test_a_cancelled_background_request_leaves_before_the_next_step(make_engine):
    engine = make_engine()
    collector = Collector()
    state = engine.submit(
        Request([5] * 20, max_tokens=400, background=True, ignore_eos=True), collector.deliver
    )
    until(lambda: collector.deltas())
    state.cancel()
    until(lambda: engine.idle)
    assert engine.model.pool.used == engine.cache_bytes_used == 0


def test_an_engine_that_ends_tells_its_background_requests(make_engine):
    engine = make_engine(max_running=1)
    collectors = [Collector(), Collector()]
    for collector in collectors:
        engine.submit(Request([5] * 20, max_tokens=400, background=True, ignore_eos=True), collector.deliver)
    engine.close()
    assert [c.wait().error.reason for c in collectors] == ["SHUTTING_DOWN"] * 2


def test_a_context_in_the_background_is_refused(make_engine):
    engine: Engine = make_engine()
    with pytest.raises(InvalidArgument) as refused:
        engine.check(Request([5] * 20, prefix=ExternalPrefix([16]), background=True))
    assert refused.value.reason == "BACKGROUND_UNSUPPORTED"
