"""Drafts with a sequence each: beams and diverse beams as plain loops find them, samples as ``n`` draws them."""

import numpy as np
import pytest

from palimpsest.decoding.drafts import DraftSettings, DraftStrategy
from palimpsest.engine import Delta, Finished, Request
from palimpsest.lm import Sampling

from .plain import Plain
from .running import PROMPTS, prompt, run, wanted


def check(told, expected) -> None:
    assert told.ids == [item.ids for item in expected]
    assert [d.logprob for d in told.drafts] == pytest.approx([item.score for item in expected], abs=1e-4)
    assert [d.score for d in told.drafts] == pytest.approx([item.mean for item in expected], abs=1e-5)
    assert told.end.overlap <= 1


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_beam_search(tiny, k):
    for text in PROMPTS:
        ids = prompt(tiny, text)
        (told,) = run(tiny, wanted(ids, DraftSettings(k=k, strategy=DraftStrategy.BEAM), 8))
        check(told, Plain(tiny, ids, tiny.eos_ids, most=8).beams(k))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("diversity", [0.0, 1.0, 50.0])
def test_diverse_beam_search(tiny, k, diversity):
    settings = DraftSettings(k=k, strategy=DraftStrategy.DIVERSE_BEAM, diversity=diversity)
    for text in PROMPTS:
        ids = prompt(tiny, text)
        (told,) = run(tiny, wanted(ids, settings, 8))
        check(told, Plain(tiny, ids, tiny.eos_ids, most=8).diverse_beams(k, diversity))
        if diversity == 50.0:
            for place in range(8):
                assert len({d.ids[place] for d in told.drafts}) == len(told.drafts)


@pytest.mark.parametrize("strategy", [DraftStrategy.BEAM, DraftStrategy.DIVERSE_BEAM])
def test_end_of_sequence_keeps_a_place(tiny, monkeypatch, strategy):
    ended = 0
    for text in PROMPTS:
        ids = prompt(tiny, text)
        search = "beams" if strategy is DraftStrategy.BEAM else "diverse_beams"
        free = getattr(Plain(tiny, ids, most=8), search)(4)
        eos = frozenset({free[0].ids[3], free[-1].ids[5]})
        monkeypatch.setattr(tiny, "eos_ids", eos)
        (told,) = run(tiny, wanted(ids, DraftSettings(k=4, strategy=strategy), 8))
        check(told, getattr(Plain(tiny, ids, eos, most=8), search)(4))
        ended += sum(len(d.ids) < 8 for d in told.drafts)
    assert ended > 3


@pytest.mark.parametrize(
    "sampling",
    [Sampling(1.0, seed=3), Sampling(0.7, top_k=20, top_p=0.9, seed=4), Sampling(3.0, min_p=0.01, seed=5)],
)
def test_samples_are_those_of_n_sequences(tiny, sampling):
    for text in PROMPTS[:3]:
        ids = prompt(tiny, text)
        (several,) = run(tiny, Request(ids, sampling, n=4, max_tokens=12))
        (told,) = run(
            tiny, wanted(ids, DraftSettings(k=4, strategy=DraftStrategy.NUCLEUS), 12, sampling=sampling)
        )
        own = {e.index: e for e in several.events if isinstance(e, Finished)}
        tokens = {
            n: tuple(t for e in several.events if isinstance(e, Delta) and e.index == n for t in e.token_ids)
            for n in range(4)
        }
        for draft in told.drafts:
            assert draft.ids == tokens[draft.slot]
            assert (draft.text, draft.reason) == (own[draft.slot].text, own[draft.slot].reason)
            assert draft.logprob == pytest.approx(own[draft.slot].logprob, abs=1e-6)
        assert {d.text for d in told.drafts} == {e.text for e in own.values()}
        assert told.end.made == 4
        assert told.end.dropped == 4 - len(told.drafts)


def test_samples_that_say_the_same_are_counted_and_dropped(tiny):
    ids = prompt(tiny, PROMPTS[0])
    settings = DraftSettings(k=5, strategy=DraftStrategy.NUCLEUS)
    (told,) = run(tiny, wanted(ids, settings, 6, sampling=Sampling(0.01, seed=1)))
    assert len(told.drafts) == 1
    assert (told.end.made, told.end.dropped, told.end.overlap) == (5, 4, 0.0)


def test_samples_without_a_temperature_are_drawn_as_published(tiny):
    ids = prompt(tiny, PROMPTS[0])
    settings = DraftSettings(k=4, strategy=DraftStrategy.NUCLEUS)
    (plain,) = run(tiny, wanted(ids, settings, sampling=Sampling(seed=9)))
    (said,) = run(tiny, wanted(ids, settings, sampling=Sampling(0.6, top_p=0.9, seed=9)))
    assert plain.timeless == said.timeless


@pytest.mark.parametrize("strategy", list(DraftStrategy))
def test_the_first_token_is_one_of_those_allowed(tiny, strategy):
    allowed = np.array([65, 90, 91, 300])
    ids = prompt(tiny, PROMPTS[0])
    settings = DraftSettings(k=6, strategy=strategy, exact=True)
    (told,) = run(tiny, wanted(ids, settings, 4, {"allowed": allowed}, sampling=Sampling(5.0, seed=2)))
    assert told.drafts
    plain = Plain(tiny, ids)
    for draft in told.drafts:
        assert draft.ids[0] in allowed
        assert draft.logprobs == pytest.approx(plain.exact(draft.ids), abs=1e-4)
    if strategy in (
        DraftStrategy.BEAM,
        DraftStrategy.SUPERPOSED,
    ):  # fewer may begin than are wanted, and they branch
        assert told.end.made >= 6
