"""Superposed drafts: as the plain loop makes them, and token for token what greedy decoding gives where k is 1."""

import pytest

from palimpsest.decoding.drafts import DraftSettings, DraftStrategy
from palimpsest.engine import Delta, Finish, Request
from palimpsest.lm import Sampling

from .plain import Plain
from .running import PROMPTS, prompt, run, wanted

ROUNDING = 0.02
"""Of scores: logits are divided by 0.06, and differ in their sixth digit."""


def check(told, expected, rounding: float = ROUNDING) -> None:
    assert told.ids == [item.ids for item in expected]
    assert [d.score for d in told.drafts] == pytest.approx([item.mean for item in expected], abs=rounding)
    assert [d.rank for d in told.drafts] == list(range(len(expected)))


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("with_store", [False, True])
def test_as_the_plain_loop_makes_them(tiny, store, documents, k, alpha, with_store):
    settings = DraftSettings(k=k, strategy=DraftStrategy.SUPERPOSED, alpha=alpha)
    plan = {"store": store} if with_store else {}
    shares = []
    for text in PROMPTS:
        ids = prompt(tiny, text)
        plain = Plain(tiny, ids, tiny.eos_ids)
        (told,) = run(tiny, wanted(ids, settings, plan=plan))
        check(told, plain.superposed(k, alpha, documents if with_store else ()))
        assert all(d.logprobs is None and d.logprob is None for d in told.drafts)
        shares += [d.ngram_share for d in told.drafts]
    assert (max(shares) > 0) == (with_store and alpha > 0)


@pytest.mark.parametrize("every", [1, 3, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_resets(tiny, store, documents, every, alpha):
    settings = DraftSettings(k=3, strategy=DraftStrategy.SUPERPOSED, alpha=alpha, reset_every=every)
    for text in PROMPTS[:3]:
        ids = prompt(tiny, text)
        (told,) = run(tiny, wanted(ids, settings, plan={"store": store}))
        check(told, Plain(tiny, ids, tiny.eos_ids).superposed(3, alpha, documents, every=every))


def test_a_sampled_reset_draws_by_the_drafts_shares(tiny):
    settings = DraftSettings(k=3, strategy=DraftStrategy.SUPERPOSED, temperature=100.0, reset_every=2)
    ids = prompt(tiny, PROMPTS[0])
    found = set()
    for seed in range(12):
        request = wanted(ids, settings, 6, sampling=Sampling(1.0, seed=seed))
        (first,), (second,) = run(tiny, request), run(tiny, request)
        assert first.ids == second.ids
        found.add(first.ids[0][:2])
    assert len(found) > 1


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("every", [0, 3])
def test_end_of_sequence_ends_a_draft(tiny, store, documents, monkeypatch, alpha, every):
    settings = DraftSettings(k=4, strategy=DraftStrategy.SUPERPOSED, alpha=alpha, reset_every=every)
    ended = 0
    for text in PROMPTS:
        ids = prompt(tiny, text)
        # Tokens that stand within the drafts made without any end.
        free = Plain(tiny, ids).superposed(4, alpha, documents, every=every)
        eos = frozenset({free[0].ids[4], free[-1].ids[2]})
        monkeypatch.setattr(tiny, "eos_ids", eos)
        (told,) = run(tiny, wanted(ids, settings, plan={"store": store}))
        check(told, Plain(tiny, ids, eos).superposed(4, alpha, documents, every=every))
        for draft in told.drafts:
            assert (draft.reason is Finish.EOS) == (draft.ids[-1] in eos)
            assert not eos.intersection(draft.ids[:-1])
            ended += draft.reason is Finish.EOS
        (without,) = run(tiny, wanted(ids, settings, plan={"store": store}, ignore_eos=True))
        check(without, free)
    assert ended > 3


@pytest.mark.parametrize(("penalty", "pool"), [(0.0, 0), (3.0, 5), (1000.0, 40)])
def test_penalty_and_candidates(tiny, store, documents, penalty, pool):
    settings = DraftSettings(
        k=3, strategy=DraftStrategy.SUPERPOSED, alpha=0.5, penalty=penalty, candidates=pool, temperature=0.5,
        floor=0.0, first_temperature=1.0,
    )  # fmt: skip
    for text in PROMPTS:
        ids = prompt(tiny, text)
        (told,) = run(tiny, wanted(ids, settings, plan={"store": store}))
        plain = Plain(tiny, ids, tiny.eos_ids)
        check(
            told, plain.superposed(3, 0.5, documents, 0.5, penalty=penalty, pool=pool, first=1.0, floor=0.0)
        )


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("over", [0, 3, 7])
def test_verified_ones_are_the_best_of_more(tiny, store, documents, alpha, over):
    settings = DraftSettings(
        k=3, strategy=DraftStrategy.SUPERPOSED_VERIFIED, alpha=alpha, over_generate=over, exact=True
    )
    for text in PROMPTS:
        ids = prompt(tiny, text)
        (told,) = run(tiny, wanted(ids, settings, plan={"store": store}))
        plain = Plain(tiny, ids, tiny.eos_ids)
        best = plain.verified(over or 6, 3, alpha, documents)
        assert told.ids == [item.ids for item in best]
        assert [d.logprob for d in told.drafts] == pytest.approx([item.score for item in best], abs=1e-4)
        assert told.end.made == (over or 6)


@pytest.mark.parametrize("strategy", [s for s in DraftStrategy if s is not DraftStrategy.NUCLEUS])
def test_one_draft_without_ngrams_is_greedy_decoding(tiny, strategy):
    over = 1 if strategy is DraftStrategy.SUPERPOSED_VERIFIED else 0
    settings = DraftSettings(k=1, strategy=strategy, over_generate=over, temperature=0.7)
    for text in PROMPTS:
        ids = prompt(tiny, text)
        (greedy,) = run(tiny, Request(ids, max_tokens=40))
        (told,) = run(tiny, wanted(ids, settings, 40))
        tokens = [t for e in greedy.events if isinstance(e, Delta) for t in e.token_ids]
        assert list(told.drafts[0].ids) == tokens
        assert told.drafts[0].text == "".join(e.text for e in greedy.events if isinstance(e, Delta))


def test_counts_of_passes_and_positions(tiny):
    ids = prompt(tiny, PROMPTS[0])
    plain = {"k": 3, "strategy": DraftStrategy.SUPERPOSED}
    (told,) = run(tiny, wanted(ids, DraftSettings(**plain), 10))
    assert (told.end.steps, told.end.positions, told.end.verified_positions) == (9, 9, 0)
    (told,) = run(tiny, wanted(ids, DraftSettings(**plain, reset_every=4), 10))
    # Tokens 1 to 4 and 5 to 8 are read exactly, in a pass each: after three superposed ones.
    assert (told.end.steps, told.end.positions) == (9, 7 + 8)
    (told,) = run(tiny, wanted(ids, DraftSettings(**plain, exact=True), 10))
    nodes = {d.ids[:n] for d in told.drafts for n in range(1, 10)}
    assert told.end.verified_positions == len(nodes)
    assert told.end.positions == 9 + len(nodes)
    assert told.end.verify_seconds > 0
    assert told.end.draft_seconds > 0
    assert told.end.search_seconds > 0


@pytest.mark.parametrize("strategy", list(DraftStrategy))
def test_drafts_of_one_token(tiny, strategy):
    (told,) = run(
        tiny, wanted([5], DraftSettings(k=3, strategy=strategy), 1, sampling=Sampling(50.0, seed=3))
    )
    assert len(told.drafts) == 3
    assert {len(d.ids) for d in told.drafts} == {1}
    assert (told.end.steps, told.end.positions) == (0, 0)


def test_with_all_the_weight_drafts_follow_the_ngrams(tiny, store, documents):
    chosen = DraftSettings(k=3, strategy=DraftStrategy.SUPERPOSED, alpha=1.0, candidates=384)
    (told,) = run(tiny, wanted(documents[0][:6], chosen, 8, {"store": store}))
    assert max(draft.ngram_share for draft in told.drafts) > 0.5
