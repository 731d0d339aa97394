"""Drafts beside others, cancelled ones, and memory: never more blocks than were promised, and all given back."""

import numpy as np
import pytest

from palimpsest.decoding.drafts import DraftSettings, DraftStrategy, Proposal, Streaming
from palimpsest.engine import Request
from palimpsest.engine.limits import check_request
from palimpsest.lm import Sampling

from .running import PROMPTS, prompt, run, wanted


def mixed(model, store) -> list[Request]:
    """Requests for drafts of all kinds, and one for a plain text."""
    texts = [prompt(model, text) for text in PROMPTS]
    plan = {"store": store}
    chosen = [
        DraftSettings(k=3, strategy=DraftStrategy.SUPERPOSED, alpha=0.3, reset_every=3),
        DraftSettings(k=4, strategy=DraftStrategy.SUPERPOSED_VERIFIED, alpha=0.3),
        DraftSettings(k=3, strategy=DraftStrategy.BEAM, streaming=Streaming.COMMITTED),
        DraftSettings(k=4, strategy=DraftStrategy.DIVERSE_BEAM),
        DraftSettings(k=3, strategy=DraftStrategy.NUCLEUS),
        DraftSettings(k=2, strategy=DraftStrategy.SUPERPOSED, exact=True, streaming=Streaming.FINAL),
    ]
    return [
        *(
            wanted(texts[n % len(texts)], one, 8 + n, plan, sampling=Sampling(0.9 * (n > 2), seed=n))
            for n, one in enumerate(chosen)
        ),
        Request(texts[0], max_tokens=11),
    ]


def test_requests_do_not_influence_each_other(tiny, store, monkeypatch):
    monkeypatch.setattr(tiny, "prefill_kind", tiny.forward_kind)
    requests = mixed(tiny, store)
    alone = []
    for request in requests:
        tiny.pool.forget_prefixes()
        alone += run(tiny, request)
    tiny.pool.forget_prefixes()
    together = run(tiny, *requests)
    for one, beside in zip(alone, together, strict=True):
        assert one.timeless == beside.timeless
    assert tiny.pool.used == 0


@pytest.mark.parametrize("at", [0, 1, 4, 9, 12])
def test_cancelling_frees_memory_and_disturbs_nobody(tiny, store, at, monkeypatch):
    monkeypatch.setattr(tiny, "prefill_kind", tiny.forward_kind)
    requests = mixed(tiny, store)
    whole = run(tiny, *requests)
    held: list[int] = []

    def cancel(step: int, handles) -> None:
        if step == at:
            held.append(tiny.pool.used)
            for handle in handles[::2]:
                handle.cancel()
        if step == at + 1:
            held.append(tiny.pool.used)

    told = run(tiny, *requests, after=cancel)
    for number, (one, before) in enumerate(zip(told, whole, strict=True)):
        if number % 2:
            assert one.timeless[1:] == before.timeless[1:]
        elif at < 4:
            assert not one.drafts
    assert at > 8 or held[0] > 0
    assert tiny.pool.used == 0


@pytest.mark.parametrize("strategy", list(DraftStrategy))
@pytest.mark.parametrize("size", [1, 15, 16, 17])
@pytest.mark.parametrize("count", [2, 16, 20])
def test_the_promised_blocks_suffice(tiny, store, strategy, size, count):
    pool, ids = tiny.pool, [(7 * n) % 300 + 5 for n in range(size)]
    plan: dict = {"store": store}
    if strategy is DraftStrategy.SUPERPOSED_VERIFIED:
        plan["extra"] = [Proposal(tuple(range(90 + n, 115 + n)), lambda text: ()) for n in range(3)]
    variants = [{"exact": True}, {}]
    if strategy.superposes:
        variants += [{"reset_every": 1}, {"exact": True, "reset_every": 5}]
    for more in variants:
        chosen = DraftSettings(k=5, strategy=strategy, alpha=0.3, temperature=1.0, **more)
        request = wanted(ids, chosen, count, plan, ignore_eos=True, sampling=Sampling(1.0, seed=size))
        needed = check_request(tiny, request)
        pool.forget_prefixes()
        kept = [pool.take() for _ in range(pool.available - needed)]
        try:
            (told,) = run(tiny, request)
            assert pool.used == len(kept)
        finally:
            for block in kept:
                pool.drop(block)
        assert told.drafts
        assert tiny.pool.used == 0


def test_drafts_without_a_sequence_each_take_one_place(tiny):
    ids = np.arange(5, 25).tolist()
    one = check_request(tiny, Request(ids, max_tokens=30))
    for k in (1, 10):
        chosen = DraftSettings(k=k, strategy=DraftStrategy.SUPERPOSED)
        assert check_request(tiny, wanted(ids, chosen, 30)) == one


@pytest.mark.parametrize("strategy", list(DraftStrategy))
def test_through_the_engine(make_engine, strategy, tiny):
    """On its thread, with others, and the same as step by step."""
    from palimpsest.decoding.drafts import Draft
    from services.decoding.drafts.tuning import drafts_of
    from tests.waiting import until

    engine = make_engine()
    chosen = DraftSettings(k=3, strategy=strategy, exact=True)
    request = wanted(prompt(tiny, PROMPTS[2]), chosen, 6, sampling=Sampling(0.8, seed=4))
    found = drafts_of(engine, request)
    (told,) = run(tiny, request)
    assert all(isinstance(one, Draft) for one in found)
    assert [d.ids for d in found] == told.ids
    until(lambda: engine.idle)
    assert engine.model.pool.used == 0
    assert engine.cache_bytes_used == 0
    assert engine.counters.generated_tokens == sum(len(d.ids) for d in found)
