"""What is told while drafts are made: it adds up to what they end as, and what is committed is never taken back."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.decoding.drafts import DraftDelta, DraftSettings, DraftStrategy, StopAt, Streaming
from palimpsest.decoding.drafts.request import Drafts
from palimpsest.decoding.drafts.slots import Slots
from palimpsest.engine import Finish
from palimpsest.lm import Sampling

from .running import PROMPTS, prompt, run, wanted


def cut(text: str, stops) -> str:
    """A text up to the stop string that is complete first, the longest of those."""
    ends = [(text.find(s) + len(s), text.find(s)) for s in stops if s in text]
    return text[: min(ends)[1]] if ends else text


def check_final(told, k: int) -> None:
    drafts = told.drafts
    assert 1 <= len(drafts) <= k
    assert len({d.text for d in drafts}) == len({d.ids for d in drafts}) == len(drafts)
    assert len({d.slot for d in drafts}) == len(drafts)
    assert all(0 <= d.slot < k for d in drafts)
    assert [d.rank for d in drafts] == list(range(len(drafts)))
    qualities = [d.score if d.logprob is None else d.logprob / len(d.ids) for d in drafts]
    assert qualities == sorted(qualities, reverse=True)


def check_told(told, streaming: Streaming, k: int) -> None:
    places = told.rebuilt()
    if streaming is Streaming.FINAL:
        assert not told.deltas
        return
    for draft in told.drafts:
        assert places.get(draft.slot, ("", ())) == (draft.text, draft.ids)
    if streaming is Streaming.REWRITES:
        left = set(places) - {d.slot for d in told.drafts}
        assert all(places[slot] == ("", ()) for slot in left)
        return
    seen: dict[int, tuple[int, int]] = {}
    for delta in told.deltas:
        chars, tokens = seen.get(delta.slot, (0, 0))
        assert (delta.keep_chars, delta.keep_tokens) == (chars, tokens)
        seen[delta.slot] = (chars + len(delta.text), tokens + len(delta.ids))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_deltas_add_up(tiny, store, data):
    draw = data.draw
    strategy, streaming = draw(st.sampled_from(DraftStrategy)), draw(st.sampled_from(Streaming))
    k, count = draw(st.integers(1, 6)), draw(st.integers(1, 14))
    stops = draw(st.lists(st.sampled_from(["e", " ", "o", "th", "ab", "\ufffd", "x"]), max_size=2))
    chosen = DraftSettings(
        k=k, strategy=strategy, streaming=streaming, alpha=draw(st.sampled_from([0.0, 0.3])),
        temperature=draw(st.sampled_from([0.06, 1.0, 5.0])), exact=draw(st.booleans()),
        reset_every=draw(st.integers(0, 4)) if strategy.superposes else 0,
        stop_at=draw(st.sampled_from(StopAt)), diversity=draw(st.sampled_from([0.0, 1.0])),
    )  # fmt: skip
    sampling = Sampling(draw(st.sampled_from([0.0, 0.3, 2.0])), seed=draw(st.integers(0, 99)))
    ids = prompt(tiny, draw(st.sampled_from(PROMPTS)))
    eos = frozenset(draw(st.lists(st.integers(0, 340), max_size=30)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "eos_ids", eos)
        (told,) = run(tiny, wanted(ids, chosen, count, {"store": store}, sampling=sampling, stop=stops))
    check_final(told, k)
    check_told(told, streaming, k)
    assert told.end.made - told.end.dropped >= len(told.drafts)
    for draft in told.drafts:
        said = [t for t in draft.ids if t not in eos]
        whole = tiny.tokenizer.decode(said, skip_special_tokens=True)
        assert cut(whole, stops).startswith(draft.text)
        if chosen.stop_at is StopAt.NONE:
            assert draft.text == cut(whole, stops)
            assert (draft.reason is Finish.STOP) == any(s in whole for s in stops)
        if draft.reason is Finish.LENGTH:
            assert len(draft.ids) == count
    assert tiny.pool.used == 0


def test_what_is_shown_follows_every_step(tiny):
    """With rewrites, the best k of the drafts as they stand: the more steps, the more tokens."""
    (told,) = run(tiny, wanted(prompt(tiny, PROMPTS[0]), DraftSettings(k=3, strategy=DraftStrategy.BEAM), 8))
    places: dict[int, int] = {}
    for number, step in enumerate(told.steps[:-1], 1):
        for delta in step:
            if isinstance(delta, DraftDelta):
                places[delta.slot] = delta.keep_tokens + len(delta.ids)
        assert list(places.values()) == [number] * 3


def test_a_draft_that_is_shown_keeps_its_place():
    """One that comes back into sight finds its old place taken, and takes a free one."""
    drafts = Drafts.__new__(Drafts)
    drafts._settings, drafts._slots, drafts._verifier = DraftSettings(k=2), Slots(2), None
    a, b, c = Shown((1,)), Shown((2,)), Shown((3,))
    for order, places in (((a, b, c), (0, 1, -1)), ((a, c, b), (0, -1, 1)), ((b, c, a), (-1, 0, 1))):
        for quality, draft in enumerate(reversed(order)):
            draft.quality = quality
        drafts._search = SimpleNamespace(live=[a, b, c], ended=[], independent=False)  # type: ignore[assignment]
        drafts._shown()
        assert (a.slot, b.slot, c.slot) == places


def test_samples_are_committed_as_they_come(tiny, monkeypatch):
    """One that comes to say what another has said is dropped, and stays where it was shown."""
    monkeypatch.setattr(tiny, "eos_ids", frozenset(range(0, tiny.vocab_size, 3)))
    chosen = DraftSettings(k=4, strategy=DraftStrategy.NUCLEUS, streaming=Streaming.COMMITTED)
    seen = 0
    for seed in range(30):
        request = wanted(prompt(tiny, PROMPTS[0]), chosen, 6, sampling=Sampling(0.8, seed=seed))
        (told,) = run(tiny, request)
        check_told(told, Streaming.COMMITTED, 4)
        seen += len(told.rebuilt()) > len(told.drafts)
    assert seen > 0


class Shown:
    """As much of a draft as places know of it."""

    def __init__(self, ids: tuple[int, ...], slot: int = -1) -> None:
        self.ids, self.slot, self.quality = ids, slot, 0.0
        self.text = SimpleNamespace(text="".join(chr(97 + n) for n in ids))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_places_hold_what_they_were_told(data):
    count = data.draw(st.integers(1, 5))
    slots, live, places = Slots(count), [Shown(())], dict.fromkeys(range(count), ("", ()))
    for _ in range(data.draw(st.integers(1, 8))):
        parents = data.draw(st.lists(st.sampled_from(live), min_size=1, max_size=count))
        children = [Shown((*p.ids, data.draw(st.integers(0, 3))), p.slot) for p in parents]
        before, clear = {id(c): c.slot for c in children}, data.draw(st.booleans())
        changes = slots.show(children, clear)
        for change in changes:
            text, ids = places[change.slot]
            places[change.slot] = (
                text[: change.keep_chars] + change.text,
                ids[: change.keep_tokens] + change.ids,
            )
            assert places[change.slot] != (text, ids)
        assert len({c.slot for c in children}) == len(children)
        assert {c.slot for c in children} <= set(range(count))
        for child in children:
            assert places[child.slot] == (child.text.text, child.ids)
        if clear:
            assert all(places[n] == ("", ()) for n in set(places) - {c.slot for c in children})
        taken: set[int] = set()
        for child in children:  # the first with a place keeps it
            if before[id(child)] >= 0 and before[id(child)] not in taken:
                assert child.slot == before[id(child)]
            taken.add(before[id(child)])
        live = children


def test_a_new_draft_goes_where_it_differs_least():
    slots = Slots(3)
    slots.show([Shown((1, 2, 3)), Shown((4, 5)), Shown((1, 7))])
    new = Shown((1, 7, 8))
    (gone, more) = slots.show([new, Shown((1, 2, 3), 0)])[::-1]
    assert new.slot == 2
    assert (more.slot, more.keep_tokens, more.keep_chars, more.text, more.ids) == (2, 2, 2, "i", (8,))
    assert (gone.slot, gone.keep_tokens, gone.text, gone.ids) == (1, 0, "", ())


def test_common_text_is_shown_in_all_places():
    slots = Slots(2)
    changes = slots.show_common([Shown((1, 2, 3)), Shown((1, 2, 9)), Shown((1, 2))])
    assert [(c.slot, c.keep_tokens, c.text, c.ids) for c in changes] == [
        (n, 0, "bc", (1, 2)) for n in range(2)
    ]
    assert slots.show_common([Shown((1, 2, 4)), Shown((1, 2, 5))]) == []
