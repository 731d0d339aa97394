"""Log-probabilities of drafts: those that transformers gives for prompt and draft, however the trie was read."""

import random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.decoding.drafts import DraftSettings, DraftStrategy, verifying
from palimpsest.decoding.drafts.verifying import CHUNK, Verifier
from palimpsest.lm import Sampling
from palimpsest.lm.forward import SequenceInput

from .plain import Plain
from .running import PROMPTS, prompt, run, wanted


def read(model, ids, drafts, passes: list[int] | None = None) -> list[tuple[float, ...]]:
    """Log-probabilities of some token sequences after a prompt, by a verifier."""
    cache = model.new_cache()
    (output,) = model.forward([SequenceInput(cache, ids)])
    verifier = Verifier(cache, output.logits[0], [SimpleNamespace(ids=tuple(d), done=True) for d in drafts])
    try:
        while not verifier.done:
            rows = verifier.feed()
            if passes is not None:
                passes.append(sum(row.count for row in rows))
            verifier.take(model.forward(rows))
        return [verifier.logprobs(one) for one in verifier.hypotheses]
    finally:
        verifier.release()
        assert model.pool.used == 0


@pytest.mark.parametrize("strategy", list(DraftStrategy))
@pytest.mark.parametrize("count", [1, 2, 12])
def test_log_probabilities_are_the_models_own(tiny, strategy, count):
    chosen = DraftSettings(k=5, strategy=strategy, exact=True)
    for text in PROMPTS:
        ids = prompt(tiny, text)
        (told,) = run(tiny, wanted(ids, chosen, count, sampling=Sampling(1.5, seed=2)))
        plain = Plain(tiny, ids)
        for draft in told.drafts:
            assert draft.logprobs == pytest.approx(plain.exact(draft.ids), abs=1e-4)
            assert draft.logprob == pytest.approx(sum(plain.exact(draft.ids)), abs=1e-4 * count)
        means = [d.logprob / len(d.ids) for d in told.drafts]
        assert means == sorted(means, reverse=True)
        assert [d.rank for d in told.drafts] == list(range(len(means)))


@pytest.mark.parametrize("strategy", [DraftStrategy.SUPERPOSED, DraftStrategy.SUPERPOSED_VERIFIED])
@pytest.mark.parametrize("k", [1, 3])
def test_drafts_longer_than_one_pass(tiny, strategy, k):
    count = 2 * CHUNK + 23
    ids = prompt(tiny, PROMPTS[2])
    request = wanted(ids, DraftSettings(k=k, strategy=strategy, exact=True), count, ignore_eos=True)
    (told,) = run(tiny, request)
    plain = Plain(tiny, ids)
    assert told.end.verified_positions > 2 * CHUNK
    assert told.end.steps >= count - 1 + 3
    for draft in told.drafts:
        assert len(draft.ids) == count
        assert draft.logprobs == pytest.approx(plain.exact(draft.ids), abs=1e-4)


def test_what_drafts_have_in_common_is_read_once(tiny):
    passes: list[int] = []
    drafts = [(1, 2, 3, 4, 5), (1, 2, 3, 9, 5), (1, 2, 3, 4, 5, 6), (7,), (1, 2)]
    read(tiny, [5, 6], drafts, passes)
    assert passes == [6]  # 1 2 3 4 5, and the 9: last tokens are only judged


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_trie_in_any_pieces(tiny, data):
    alphabet = st.integers(3, 3 + data.draw(st.integers(0, 3)))
    drafts = data.draw(st.lists(st.lists(alphabet, min_size=1, max_size=24), min_size=1, max_size=9))
    ids = data.draw(st.lists(st.integers(0, 340), min_size=1, max_size=35))
    piece = data.draw(st.integers(1, 12))
    passes: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifying, "CHUNK", piece)
        found = read(tiny, ids, drafts, passes)
    assert max(passes, default=0) <= piece
    assert sum(passes) == len({tuple(d[:n]) for d in drafts for n in range(1, len(d))})
    plain = Plain(tiny, ids)
    for draft, logprobs in zip(drafts, found, strict=True):
        assert logprobs == pytest.approx(plain.exact(draft), abs=1e-4)


def test_bits_do_not_depend_on_what_is_verified_beside(tiny, monkeypatch):
    if tiny.compiled is None:
        pytest.skip("there is no compiled pass here")
    monkeypatch.setattr(tiny, "prefill_kind", "compiled")
    chance = random.Random(1)
    ids = prompt(tiny, PROMPTS[2])
    drafts = [[chance.randrange(8, 12) for _ in range(chance.randrange(1, 90))] for _ in range(20)]
    alone = [read(tiny, ids, [draft])[0] for draft in drafts]
    assert read(tiny, ids, drafts) == alone
    chance.shuffle(drafts)
    assert sorted(read(tiny, ids, drafts[:9])) == sorted(read(tiny, ids, [d])[0] for d in drafts[:9])
