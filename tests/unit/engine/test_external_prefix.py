"""Requests that continue a stored context: the same tokens in any order of arrival, memory given back, no mixing."""

import threading
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palimpsest.engine import ChunkOrigin, Engine, ExternalPrefix, PrefixReady, Request
from palimpsest.errors import InvalidArgument, ResourceExhausted, Unavailable
from palimpsest.lm import SequenceInput, load
from tests.waiting import until

from .collecting import Collector, Gate, run, sleeps


def some_ids(count: int, seed: int = 0) -> list[int]:
    return torch.randint(3, 340, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def exported(model, ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact keys and values of a text. For models no engine is using."""
    cache = model.new_cache()
    model.forward([SequenceInput(cache, ids, logits="none")])
    kv = cache.export()
    cache.release()
    return kv


def stretch(
    kv: tuple[torch.Tensor, torch.Tensor], prefix: ExternalPrefix, index: int
) -> tuple[torch.Tensor, torch.Tensor]:
    span = prefix.chunks[index]
    return kv[0][:, :, span.start : span.stop], kv[1][:, :, span.start : span.stop]


def rough(kv: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values that are plainly not the exact ones."""
    return kv[0] + 0.5, kv[1] - 0.5


def greedy(ids: Sequence[int], count: int = 12, **more) -> Request:
    return Request(ids, max_tokens=count, ignore_eos=True, **more)


def at_rest(engine: Engine) -> None:
    """All memory is back."""
    until(lambda: engine.idle)
    assert engine.cache_bytes_used == 0
    assert engine.model.pool is None or engine.model.pool.used == 0


class Ready:
    """What the engine said about recomputed pieces."""

    def __init__(self) -> None:
        self.seconds: dict[int, float] = {}

    def __call__(self, index: int, seconds: float) -> None:
        assert index not in self.seconds
        self.seconds[index] = seconds


def origins(collector: Collector) -> tuple[ChunkOrigin, ...]:
    (ready,) = [e for e in collector.events if isinstance(e, PrefixReady)]
    assert collector.events[0] is ready
    return ready.origins


@pytest.fixture(scope="module")
def shared_engine(tiny_model):
    engine = Engine(load(tiny_model, "cpu", "float32", threads=1, cache_bytes=8 << 20))
    ids = some_ids(180, 9)
    kv = exported(engine.model, ids[:150])
    expected = run(engine, greedy(ids))[0].ids()
    yield engine, ids, kv, expected
    engine.close()


@given(
    cuts=st.lists(st.integers(1, 150), max_size=6, unique=True).map(sorted),
    aligned=st.booleans(),
    data=st.data(),
)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_order_and_any_mix_gives_the_tokens_of_a_plain_request(shared_engine, cuts, aligned, data):
    engine, ids, kv, expected = shared_engine
    engine.model.pool.forget_prefixes()
    bounds = sorted({0, 150, *((cut // 16 * 16 for cut in cuts) if aligned else cuts)})
    tokens = [b - a for a, b in pairwise(bounds) if b > a]
    told = Ready()
    prefix = ExternalPrefix(tokens, b"exact", told)
    order = data.draw(st.permutations(range(len(tokens))))
    loaded = data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    before = data.draw(st.integers(0, len(tokens)))  # told of so many pieces before it is submitted

    def tell(index: int) -> None:
        if loaded[index]:
            prefix.arrived(index, *stretch(kv, prefix, index))
        else:
            prefix.recompute(index)

    for index in order[:before]:
        tell(index)
    collector, other = Collector(), Collector()
    engine.submit(greedy(ids, prefix=prefix), collector.deliver)
    engine.submit(greedy(ids[20:60], 30), other.deliver)
    for index in order[before:]:
        tell(index)
    assert collector.wait().ids() == expected
    other.wait()
    assert origins(collector) == tuple(
        ChunkOrigin.LOADED if each else ChunkOrigin.RECOMPUTED for each in loaded
    )
    assert set(told.seconds) == {n for n, each in enumerate(loaded) if not each}
    assert all(seconds > 0 for seconds in told.seconds.values())
    assert collector.started.prompt_tokens == 180
    assert collector.started.cached_tokens == 0
    at_rest(engine)


def test_a_request_that_waits_holds_up_no_other_and_lets_the_engine_sleep(make_engine):
    engine = make_engine()
    ids = some_ids(100)
    kv = exported(engine.model, ids[:64])
    expected = run(engine, greedy(ids))[0].ids()
    engine.model.pool.forget_prefixes()
    prefix, collector = ExternalPrefix([32, 32]), Collector()
    engine.submit(greedy(ids, prefix=prefix), collector.deliver)
    for _ in range(2):  # a piece that comes twice is held once
        prefix.arrived(1, *stretch(kv, prefix, 1)).result(60)
        assert engine.model.pool.used == 2
    for n in range(3):
        assert run(engine, greedy([n + 1, 2, 3], 5))[0].finished()
    until(lambda: sleeps(engine))
    assert not collector.events
    prefix.recompute(0)
    assert collector.wait().ids() == expected
    assert origins(collector) == (ChunkOrigin.RECOMPUTED, ChunkOrigin.LOADED)
    at_rest(engine)


def test_several_sequences_share_a_past(make_engine):
    engine = make_engine()
    ids = some_ids(90)
    kv = exported(engine.model, ids[:70])
    expected = run(engine, greedy(ids))[0].ids()
    engine.model.pool.forget_prefixes()
    prefix, collector = ExternalPrefix([35, 35]), Collector(3)
    for index in (1, 0):
        prefix.arrived(index, *stretch(kv, prefix, index))
    engine.submit(greedy(ids, n=3, prefix=prefix), collector.deliver)
    collector.wait()
    assert [collector.ids(n) for n in range(3)] == [expected] * 3
    at_rest(engine)


def test_what_was_loaded_is_found_again_by_its_salt_and_by_nobody_else(make_engine):
    engine = make_engine()
    ids = some_ids(200)
    kv = rough(exported(engine.model, ids[:160]))
    exact = run(engine, greedy(ids))[0].ids()
    engine.model.pool.forget_prefixes()
    prefix = ExternalPrefix([64, 64, 32], b"salt")
    prefix.recompute(0)
    for index in (1, 2):
        prefix.arrived(index, *stretch(kv, prefix, index))
    first = Collector()
    engine.submit(greedy(ids, prefix=prefix), first.deliver)
    approximate = first.wait().ids()
    assert approximate != exact
    assert first.events[0].exact_tokens == 64
    assert engine.held(ids[:160], b"salt") == 160
    assert engine.held(ids[:160], b"other") == engine.held(ids[:160], b"") == 64  # exact, so anybody's

    assert engine.held(ids[:160], b"salt", b"another caller") == 0
    again, told = ExternalPrefix([64, 64, 32], b"salt", ready := Ready()), Collector()
    for index in range(3):
        again.recompute(index)
    engine.submit(greedy([*ids[:-1], ids[-1]], prefix=again), told.deliver)
    assert told.wait().ids() == approximate
    assert origins(told) == (ChunkOrigin.CACHED,) * 3
    assert told.events[0].exact_tokens == 64
    assert ready.seconds == {0: 0.0, 1: 0.0, 2: 0.0}
    assert told.started.cached_tokens == 192

    plain = run(engine, greedy(ids))[0]
    assert plain.ids() == exact
    assert plain.started.cached_tokens == 64
    other = ExternalPrefix([64, 64, 32], b"other")
    other.recompute_rest()
    elsewhere = Collector()
    engine.submit(greedy(ids, prefix=other), elsewhere.deliver)
    assert elsewhere.wait().ids() == exact
    assert origins(elsewhere) == (ChunkOrigin.CACHED,) * 3  # of the plain request
    assert elsewhere.events[0].exact_tokens == 160
    at_rest(engine)


def test_a_piece_that_is_partly_there_is_loaded_from_there_on(make_engine):
    engine = make_engine()
    ids = some_ids(120)
    kv = exported(engine.model, ids[:96])
    expected = run(engine, greedy(ids))[0].ids()
    engine.model.pool.forget_prefixes()
    run(engine, greedy(ids[:50], 2))
    prefix, collector = ExternalPrefix([80, 16]), Collector()
    engine.submit(greedy(ids, prefix=prefix), collector.deliver)
    prefix.arrived(0, *stretch(kv, prefix, 0))
    prefix.recompute(1)
    assert collector.wait().ids() == expected
    assert origins(collector) == (ChunkOrigin.LOADED, ChunkOrigin.RECOMPUTED)
    assert collector.started.cached_tokens == 48
    at_rest(engine)


def test_what_does_not_fit_the_model_is_recomputed(make_engine):
    engine = make_engine()
    ids = some_ids(70)
    expected = run(engine, greedy(ids))[0].ids()
    engine.model.pool.forget_prefixes()
    prefix, collector = ExternalPrefix([32, 32]), Collector()
    prefix.arrived(0, torch.zeros(3, 2, 32, 16), torch.zeros(3, 2, 32, 16))
    prefix.recompute(1)
    engine.submit(greedy(ids, prefix=prefix), collector.deliver)
    assert collector.wait().ids() == expected
    assert origins(collector) == (ChunkOrigin.RECOMPUTED, ChunkOrigin.RECOMPUTED)
    with pytest.raises(ValueError, match="32 tokens"):
        prefix.arrived(0, torch.zeros(2, 2, 31, 16), torch.zeros(2, 2, 31, 16))


def test_leaving_while_the_past_is_missing(make_engine):
    engine = make_engine()
    ids = some_ids(100)
    kv = exported(engine.model, ids[:64])
    for end in ("cancel", "fail"):
        prefix, collector = ExternalPrefix([32, 16, 16]), Collector()
        handle = engine.submit(greedy(ids, prefix=prefix), collector.deliver)
        prefix.arrived(2, *stretch(kv, prefix, 2)).result(60)
        assert engine.model.pool.used == 1
        prefix.recompute(0)
        until(lambda: engine.model.pool.used == 3)
        if end == "cancel":
            handle.cancel()
        else:
            prefix.failed(Unavailable("ENGINE_FAILED", "gone"))
            assert collector.wait().error.message == "gone"
        at_rest(engine)
        assert prefix.arrived(1, *stretch(kv, prefix, 1)).done()
        assert collector.events == ([] if end == "cancel" else collector.events[-1:])
        engine.model.pool.forget_prefixes()


def test_leaving_before_it_is_admitted(make_engine):
    engine = make_engine(max_running=1)
    gate = Gate(engine)
    first = Collector()
    engine.submit(greedy([1], 5), first.deliver)
    assert gate.entered.wait(60)
    ids, kv = some_ids(40), (torch.zeros(2, 2, 32, 16), torch.zeros(2, 2, 32, 16))
    cancelled, failed, told = ExternalPrefix([32]), ExternalPrefix([32]), Collector()
    handle = engine.submit(greedy(ids, prefix=cancelled), lambda _: None)
    engine.submit(greedy(ids, prefix=failed), told.deliver)
    waiting = [prefix.arrived(0, *kv) for prefix in (cancelled, failed)]
    assert not any(future.done() for future in waiting)
    handle.cancel()
    failed.failed(Unavailable("ENGINE_FAILED", "gone"))
    gate.open.set()
    for future in waiting:
        future.result(60)
    assert told.wait().error.message == "gone"
    first.wait()
    at_rest(engine)


def test_a_full_cache_holds_the_pieces_of_every_admitted_request(make_engine):
    block = 16 * 2 * 2 * 2 * 16 * 4
    engine = make_engine(cache_bytes=18 * block)
    ids = [some_ids(128, seed) for seed in range(4)]
    kv = [exported(engine.model, each[:112]) for each in ids]
    expected = [run(engine, greedy(each, 16))[0].ids() for each in ids]
    pasts, collectors = [ExternalPrefix([48, 64], bytes([n])) for n in range(4)], [Collector() for _ in ids]
    for each, prefix, collector in zip(ids, pasts, collectors, strict=True):
        engine.submit(greedy(each, 16, prefix=prefix), collector.deliver)
    with pytest.raises(ResourceExhausted):
        engine.submit(greedy(ids[0], 300, prefix=ExternalPrefix([48])), lambda _: None)
    futures = [prefix.arrived(1, *stretch(kv[n], prefix, 1)) for n, prefix in enumerate(pasts)]
    for prefix in pasts:
        prefix.recompute(0)
    assert [c.wait().ids() for c in collectors] == expected
    for future in futures:
        future.result(60)
    at_rest(engine)


def test_the_end_of_the_engine_lets_go_of_everything(make_engine):
    engine = make_engine()
    prefix, collector = ExternalPrefix([32, 32]), Collector()
    engine.submit(greedy(some_ids(100), prefix=prefix), collector.deliver)
    engine.close()
    assert collector.wait().error.reason == "SHUTTING_DOWN"
    assert prefix.arrived(0, torch.zeros(2, 2, 32, 16), torch.zeros(2, 2, 32, 16)).done()


def test_a_waiter_that_gives_up_does_no_harm(make_engine):
    engine = make_engine(max_running=1)
    gate = Gate(engine)
    engine.submit(greedy([1], 3), Collector().deliver)
    assert gate.entered.wait(60)
    ids = some_ids(40)
    prefix, collector = ExternalPrefix([32]), Collector()
    engine.submit(greedy(ids, prefix=prefix), collector.deliver)
    assert prefix.arrived(0, torch.zeros(2, 2, 32, 16), torch.zeros(2, 2, 32, 16)).cancel()
    gate.open.set()
    assert collector.wait().finished()
    at_rest(engine)


def test_what_can_never_work_is_refused(make_engine):
    engine = make_engine()
    with pytest.raises(InvalidArgument) as caught:
        engine.submit(greedy([1] * 32, prefix=ExternalPrefix([16, 16])), lambda _: None)
    assert caught.value.reason == "PROMPT_EMPTY"
    for chunks in ([], [16, 0]):
        with pytest.raises(ValueError, match="chunks"):
            ExternalPrefix(chunks)
    prefix, collector = ExternalPrefix([1]), Collector()
    prefix.recompute_rest()
    engine.submit(greedy([1, 2], prefix=prefix), collector.deliver)
    with pytest.raises(ValueError, match="belongs"):
        engine.submit(greedy([1, 2], prefix=prefix), lambda _: None)
    assert collector.wait().finished()


@pytest.mark.parametrize("recompute", [False, True])
def test_models_with_transformers_own_cache(tiny_model, recompute):
    model = load(tiny_model, "cpu", "float32", threads=1, cache_bytes=8 << 20)
    model.close()
    model.pool, model.compiled, model.forward_kind = None, None, "transformers"
    ids = some_ids(60)
    kv = exported(model, ids[:48])
    model.generic.recompute = recompute
    engine = Engine(model)
    expected = run(engine, greedy(ids))[0].ids()
    prefix, collector = ExternalPrefix([20, 20, 8], b"x"), Collector()
    prefix.arrived(2, *stretch(kv, prefix, 2))
    prefix.arrived(1, *stretch(kv, prefix, 1))
    prefix.recompute(0)
    engine.submit(greedy(ids, prefix=prefix), collector.deliver)
    assert collector.wait().ids() == expected
    assert origins(collector) == (
        ChunkOrigin.RECOMPUTED,
        *([ChunkOrigin.RECOMPUTED if recompute else ChunkOrigin.LOADED] * 2),
    )
    engine.close()


def test_told_from_many_threads(make_engine):
    engine = make_engine(max_running=4)
    ids = [some_ids(150, seed) for seed in range(6)]
    kv = [exported(engine.model, each[:128]) for each in ids]
    expected = [run(engine, greedy(each, 20))[0].ids() for each in ids]
    engine.model.pool.forget_prefixes()
    pasts = [ExternalPrefix([16] * 8, bytes([n])) for n in range(6)]
    collectors = [Collector() for _ in ids]

    def tell(index: int, prefix: ExternalPrefix, n: int) -> None:
        if (index + n) % 3:
            prefix.arrived(index, *stretch(kv[n], prefix, index)).result(60)
        else:
            prefix.recompute(index)

    threads = [
        threading.Thread(target=tell, args=(index, prefix, n))
        for index in reversed(range(8))
        for n, prefix in enumerate(pasts)
    ]
    for each, prefix, collector in zip(ids, pasts, collectors, strict=True):
        engine.submit(greedy(each, 20, prefix=prefix), collector.deliver)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [c.wait().ids() for c in collectors] == expected
    at_rest(engine)


@pytest.mark.model
def test_the_sample_model_continues_a_stored_context(sample_model):
    engine = Engine(load(sample_model, "cpu", "auto", threads=1, cache_bytes=256 << 20))
    text = "A palimpsest is a page that is written on, scraped clean and written on again. " * 12
    ids = engine.model.tokenizer(text + "In short,").input_ids
    kv = exported(engine.model, ids[:192])
    expected = run(engine, greedy(ids, 24))[0].ids()
    for loaded in ([1, 2], [0, 2]):
        engine.model.pool.forget_prefixes()
        prefix, collector = ExternalPrefix([64] * 3, b"x"), Collector()
        engine.submit(greedy(ids, 24, prefix=prefix), collector.deliver)
        for index in reversed(range(3)):
            if index in loaded:
                prefix.arrived(index, *stretch(kv, prefix, index))
            else:
                prefix.recompute(index)
        assert collector.wait().ids() == expected
    engine.close()
