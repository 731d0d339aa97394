"""Prefilling for keeps: the keys and values of a whole pass, in order, no further ahead than the taker, given back."""

import threading
from concurrent.futures import CancelledError, Future

import pytest
import torch

from palimpsest.engine import Engine, Request
from palimpsest.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from palimpsest.lm import SequenceInput, load
from tests.waiting import until

from .collecting import Collector, Gate, run, sleeps


def some_ids(count: int) -> list[int]:
    return torch.randint(3, 340, (count,), generator=torch.Generator().manual_seed(count)).tolist()


class Kept:
    """Takes stretches."""

    def __init__(self) -> None:
        self.stretches: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def __call__(self, start: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.stretches.append((start, keys, values))

    @property
    def starts(self) -> list[int]:
        return [start for start, _, _ in self.stretches]


@pytest.mark.parametrize(
    ("tokens", "chunk"), [(1, 16), (700, 128), (700, 700), (515, 512), (97, 13), (300, 1000)]
)
def test_stretches_are_the_cache_of_one_pass(make_engine, tokens, chunk):
    engine = make_engine()
    ids, kept = some_ids(tokens), Kept()
    engine.submit_prefill(ids, chunk, kept).result(60)
    until(lambda: engine.idle)
    assert engine.model.pool.used == engine.cache_bytes_used == 0
    assert engine.counters.prefill_tokens == tokens
    assert kept.starts == list(range(0, tokens, chunk))
    cache = engine.model.new_cache()
    engine.model.forward([SequenceInput(cache, ids, logits="none")])
    keys, values = cache.export()
    assert torch.equal(torch.cat([k for _, k, _ in kept.stretches], 2), keys)
    assert torch.equal(torch.cat([v for _, _, v in kept.stretches], 2), values)
    assert all(k.shape[2] <= chunk and k.is_contiguous() for _, k, _ in kept.stretches)


def test_it_goes_on_beside_streams_and_changes_neither(make_engine):
    engine = make_engine()
    ids, alone, beside = some_ids(600), Kept(), Kept()
    engine.submit_prefill(ids, 100, alone).result(60)
    request = Request([5, 6, 7], max_tokens=100, ignore_eos=True)
    expected = run(engine, request)[0].ids()
    collector = Collector()
    gate = Gate(engine)
    engine.submit(request, collector.deliver)
    future = engine.submit_prefill(ids, 100, beside)
    gate.open.set()
    future.result(60)
    assert collector.wait().ids() == expected
    for (a, k, v), (b, x, y) in zip(alone.stretches, beside.stretches, strict=True):
        assert a == b
        assert torch.equal(k, x)
        assert torch.equal(v, y)


def test_it_is_never_more_than_two_stretches_ahead(make_engine):
    engine = make_engine()
    futures: list[Future[None]] = []

    def take(start, keys, values):
        futures.append(Future())
        return futures[-1]

    prefill = engine.submit_prefill(some_ids(320), 32, take)
    for through in range(10):
        until(lambda through=through: len(futures) == min(10, through + 2))
        run(engine, Request([through + 1], max_tokens=3, ignore_eos=True))  # others are not held up
        assert len(futures) == min(10, through + 2)
        assert not prefill.done()
        futures[through].set_result(None)
    prefill.result(60)
    assert engine.model.pool.used == 0


def test_the_engine_sleeps_while_the_taker_is_behind(make_engine):
    engine = make_engine()
    waiting: Future[None] = Future()
    future = engine.submit_prefill(some_ids(200), 16, lambda *_: waiting)
    until(lambda: sleeps(engine))
    assert not future.done()
    run(engine, Request([1], max_tokens=2, ignore_eos=True))
    until(lambda: sleeps(engine))
    waiting.set_result(None)
    future.result(60)


def test_an_error_of_the_taker_is_its_own(make_engine):
    engine = make_engine()

    def fails_at_once(*_):
        raise KeyError("taker")

    failed: Future[None] = Future()
    failed.set_exception(OSError("disk"))
    given_up: Future[None] = Future()
    given_up.cancel()
    for take, kind in [
        (fails_at_once, KeyError),
        (lambda *_: failed, OSError),
        (lambda *_: given_up, CancelledError),
    ]:
        with pytest.raises(kind):
            engine.submit_prefill(some_ids(100), 10, take).result(60)
        assert engine.model.pool.used == 0
    until(lambda: engine.idle)
    assert engine.cache_bytes_used == 0
    assert run(engine, Request([1, 2], max_tokens=3, ignore_eos=True))[0].finished()


def test_giving_it_up_takes_effect_before_the_next_piece(make_engine):
    engine = make_engine()
    gate, kept = Gate(engine), Kept()
    future = engine.submit_prefill(some_ids(1500), 300, kept)
    assert gate.entered.wait(60)
    assert future.cancel()
    gate.open.set()
    until(lambda: engine.idle)
    assert engine.counters.prefill_tokens == 256
    assert not kept.stretches
    assert engine.model.pool.used == engine.cache_bytes_used == 0


def test_giving_it_up_while_it_waits_for_the_taker(make_engine):
    engine = make_engine()
    started, never = threading.Event(), Future()

    def take(*_):
        started.set()
        return never

    future = engine.submit_prefill(some_ids(400), 16, take)
    assert started.wait(60)
    until(lambda: engine.counters.prefill_tokens)
    assert future.cancel()
    until(lambda: engine.idle)
    assert engine.model.pool.used == engine.cache_bytes_used == 0


def test_what_can_never_work_is_refused(make_engine):
    engine = make_engine(cache_bytes=8 * 16 * 2 * 2 * 2 * 16 * 4)
    kept = Kept()
    for ids, kind in [([], InvalidArgument), ([999], InvalidArgument), ([1] * 3000, InvalidArgument)]:
        with pytest.raises(kind):
            engine.submit_prefill(ids, 16, kept)
    with pytest.raises(ResourceExhausted):
        engine.submit_prefill([1] * 200, 16, kept)
    with pytest.raises(ValueError, match="chunk_tokens"):
        engine.submit_prefill([1], 0, kept)


def test_models_with_transformers_own_cache(tiny_model):
    model = load(tiny_model, "cpu", "float32", threads=1, cache_bytes=8 << 20)
    model.close()
    model.pool, model.compiled, model.forward_kind = None, None, "transformers"
    engine, kept, ids = Engine(model), Kept(), some_ids(90)
    engine.submit_prefill(ids, 40, kept).result(60)
    assert [k.shape[2] for _, k, _ in kept.stretches] == [40, 40, 10]
    model.generic.recompute = True
    with pytest.raises(FailedPrecondition):
        engine.submit_prefill(ids, 40, kept).result(60)
    assert not engine.failed
    engine.close()
