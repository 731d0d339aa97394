"""Quotations judged beside drafts: their rank, their sources, and what becomes of revoked ones."""

import dataclasses

import numpy as np
import pytest

from palimpsest.candidates import Owner
from palimpsest.decoding.drafts import DraftSettings, DraftStrategy, Proposal, StopAt, Streaming
from palimpsest.decoding.quoting.proposals import proposals
from palimpsest.engine import Finish
from palimpsest.lm import TokenBytes

from .plain import Plain
from .quoting import check_sources, quoting
from .running import PROMPTS, prompt, run, wanted

# Drafts of almost any tokens, beside which every quotation is among the ten best.
POOR = DraftSettings(k=10, over_generate=10, temperature=100.0, first_temperature=100.0, candidates=1024)


def liked(model, ids, count: int):
    """What the model likes best and superposed drafts do not find, and what superposed drafts find."""
    plain = Plain(model, ids, model.eos_ids, most=count)
    found = {item.ids for item in plain.superposed(6)}
    best = next(
        item for item in plain.beams(8) if item.ids not in found and "\ufffd" not in plain.text(item.ids)
    )
    return best, plain.verified(6, 3)


@pytest.fixture
def wish(tiny):
    """A prompt, and what the model would rather say than any superposed draft."""
    for first in range(40, 300):
        ids = [first, first + 3, first + 9]
        try:
            best, others = liked(tiny, ids, 4)
        except StopIteration:
            continue
        if best.mean > others[0].mean:
            return ids, best
    raise AssertionError("the model has no such wish")


def test_a_quotation_that_the_model_likes_comes_first(tiny, wish):
    ids, best = wish
    document = [5, 6, *ids, *best.ids, 7, 8]
    block, extra = quoting(tiny, [document], ids, 4)
    assert [one.ids for one in extra] == [best.ids]
    (told,) = run(tiny, wanted(ids, DraftSettings(k=3), 4, {"extra": extra}))
    first = told.drafts[0]
    assert first.ids == best.ids
    assert first.logprobs == pytest.approx(Plain(tiny, ids).exact(best.ids), abs=1e-4)
    check_sources(block, first)
    (source,) = first.sources
    assert (source.token_start, source.token_end) == (5, 9)
    assert all(not d.sources for d in told.drafts[1:])
    assert told.rebuilt()[first.slot] == (first.text, first.ids)
    for step in told.steps[:-1]:  # nothing of it is told before it has its source
        assert all(getattr(event, "ids", ())[:4] != best.ids for event in step)


@pytest.mark.parametrize("k", [1, 3])
def test_an_unliked_quotation_has_the_last_place_and_no_other(tiny, k):
    ids = prompt(tiny, PROMPTS[0])
    chosen = DraftSettings(k=k, streaming=Streaming.FINAL)
    (without,) = run(tiny, wanted(ids, chosen, 6))
    worst = Proposal((17, 18, 19, 20, 21, 22), lambda text: (object(),))
    (told,) = run(tiny, wanted(ids, chosen, 6, {"extra": [worst]}))
    kept = k - 1 or 1  # a single place is the best draft's
    assert [d.ids for d in told.drafts[:kept]] == [d.ids for d in without.drafts[:kept]]
    assert [d.ids for d in told.drafts if d.sources] == ([worst.ids] if k > 1 else [])
    assert told.end.made == without.end.made


def ends_but(model, ids) -> frozenset[int]:
    """Ends of sequence with which few drafts are made beside these tokens, so that a bad one has a place too."""
    return frozenset(range(model.vocab_size)) - frozenset(ids)


@pytest.mark.parametrize("count", [1, 4, 9])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_quotations_shorter_than_drafts_may_be(tiny, count, length):
    ids = prompt(tiny, PROMPTS[0])
    quoted = Plain(tiny, ids, most=4).beams(1)[0].ids[:length]
    extra = [Proposal(quoted, lambda text: (object(),)), Proposal((), lambda text: ())]
    (told,) = run(tiny, wanted(ids, DraftSettings(k=10, over_generate=12), count, {"extra": extra}))
    found = [d for d in told.drafts if d.sources]
    assert len(found) == 1
    assert found[0].ids == quoted[:count]
    assert found[0].reason is Finish.LENGTH
    assert found[0].logprobs == pytest.approx(Plain(tiny, ids).exact(quoted[:count]), abs=1e-4)


def test_quotations_end_where_drafts_end(tiny, monkeypatch):
    ids = prompt(tiny, PROMPTS[0])
    _, extra = quoting(tiny, "the quick brown fox jumps over the lazy dog", ids, 9)
    monkeypatch.setattr(tiny, "eos_ids", ends_but(tiny, extra[0].ids))
    texts = {}
    for stop_at, stops in ((StopAt.WORD, ()), (StopAt.NONE, ("mps",)), (StopAt.NONE, ())):
        chosen = DraftSettings(k=10, stop_at=stop_at)
        (told,) = run(tiny, wanted(ids, chosen, 9, {"extra": extra}, stop=stops))
        (found,) = [d for d in told.drafts if d.sources]
        texts[stop_at, stops] = (found.text, found.reason, found.stop)
    assert texts[StopAt.WORD, ()] == (" fox", Finish.STOP, "")
    assert texts[StopAt.NONE, ("mps",)] == (" fox ju", Finish.STOP, "mps")
    assert texts[StopAt.NONE, ()][0].startswith(" fox jumps over")


def test_revoked_meanwhile_it_is_dropped(tiny, wish):
    ids, best = wish
    gone: set[str] = set()
    document = [5, 6, *ids, *best.ids, 7, 8]
    _, extra = quoting(tiny, [document], ids, 4, lambda corpus, document, version: document not in gone)

    def revoke(step: int, handles) -> None:
        if step == 2:
            gone.add("d0")

    request = wanted(ids, DraftSettings(k=3), 4, {"extra": extra})
    (told,) = run(tiny, request, after=revoke)
    (without,) = run(tiny, wanted(ids, DraftSettings(k=3), 4))
    assert told.drafts == without.drafts
    assert best.ids not in told.ids


def test_no_quotation_is_told_without_a_source(tiny, wish):
    """However the answers change while the drafts are told."""
    ids, best = wish
    answers = iter([True, *[False] * 99])
    _, extra = quoting(tiny, [[5, 6, *ids, *best.ids]], ids, 4, lambda *_: next(answers))
    (told,) = run(tiny, wanted(ids, DraftSettings(k=3), 4, {"extra": extra}))
    for draft in told.drafts:
        assert draft.sources or draft.ids != best.ids


def test_of_two_that_say_the_same_the_quoted_one_stays(tiny):
    ids = prompt(tiny, PROMPTS[0])
    (without,) = run(tiny, wanted(ids, DraftSettings(k=3), 6))
    for draft in without.drafts:
        if "\ufffd" in draft.text:
            continue
        block, extra = quoting(tiny, [[9, *ids, *draft.ids, 8, 7]], ids, 6)
        (told,) = run(tiny, wanted(ids, DraftSettings(k=3), 6, {"extra": extra}))
        assert told.ids == without.ids
        assert told.end.dropped == without.end.dropped + 1
        check_sources(block, told.drafts[draft.rank])


def test_the_quoted_one_stays_though_it_is_cut_into_other_tokens(tiny):
    """The same text from other tokens, which the model likes less."""
    ids = prompt(tiny, PROMPTS[0])
    pieces = {token: TokenBytes(tiny.tokenizer)(token) for token in range(3, tiny.vocab_size)}
    single = {text: token for token, text in pieces.items() if len(text) == 1}
    longer, text = next((t, b) for t, b in pieces.items() if len(b) == 2 and b.isascii() and b.isalpha())
    chosen = DraftSettings(k=1, strategy=DraftStrategy.SUPERPOSED_VERIFIED, over_generate=1)
    generated, quoted = (longer,), tuple(single[text[n : n + 1]] for n in range(2))
    plan = {"extra": [Proposal(quoted, lambda said: (said,))], "allowed": np.array(generated)}
    (told,) = run(tiny, wanted(ids, chosen, 2, {**plan, "extra": ()}, stop=("\x00",)))
    assert told.ids[0][:1] == generated
    eos = told.ids[0][1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "eos_ids", frozenset({eos}))
        (told,) = run(tiny, wanted(ids, chosen, 2, plan))
    assert [(d.ids, d.text) for d in told.drafts] == [(quoted, text.decode())]


def test_other_owners_of_the_same_bytes_are_sources_too(tiny, wish):
    ids, best = wish
    block, _ = quoting(tiny, [[5, 6, *ids, *best.ids, 7, 8]], ids, 4)
    passage = block.passages[0]
    owner = Owner("corpora/c", "copy", 3, 100, 100, 50)
    block.passages = (dataclasses.replace(passage, owners=(owner,)),)
    dead: set[str] = set()
    extra = proposals(block, ids, 3, 4, lambda corpus, document, version: document not in dead)
    text = Plain(tiny, ids).text(best.ids)
    first, second = extra[0].sources(text)
    assert (second.document, second.byte_start) == ("copy", 100 + first.byte_start)
    assert (second.token_start, second.token_end) == (50 + first.token_start, 50 + first.token_end)
    dead.add("d0")
    assert [s.document for s in extra[0].sources(text)] == ["copy"]
    assert extra[0].sources(text + "x") == extra[0].sources("") == ()


def test_quotations_hold_whole_characters(tiny):
    document = "over the 雪雪🦊 and over the fox"
    ids = prompt(tiny, "over the")
    whole = prompt(tiny, document)
    sizes = set()
    for count in range(1, 14):
        block, extra = quoting(tiny, document, ids, count)
        for one in extra:
            sizes.add(len(one.ids))
            (told,) = run(tiny, wanted(ids, POOR, count, {"extra": [one]}))
            (draft,) = [d for d in told.drafts if d.sources]
            assert "\ufffd" not in draft.text
            check_sources(block, draft)
    assert sizes < set(range(1, 14))
    # After half a character nothing can be quoted.
    inside = whole[: len(ids) + 2]
    assert quoting(tiny, document, inside, 5)[1] == []


def test_quotations_begin_with_the_healed_bytes(tiny):
    document = "the quick brown fox jumps. the quick brown dog sleeps. the quick brown fog rises."
    ids = prompt(tiny, "the quick brown")
    block, extra = quoting(tiny, document, ids, 6, healed=b" fo")
    texts = [tiny.tokenizer.decode(one.ids) for one in extra]
    assert len(texts) == 2
    assert all(text.startswith(" fo") for text in texts)
    plan = {"extra": extra, "healed": b" fo"}
    (told,) = run(tiny, wanted(ids, POOR, 6, plan))
    quoted = [d for d in told.drafts if d.sources]
    assert {d.text[:2] for d in quoted} == {"x ", "g "}
    whole = prompt(tiny, document)
    for draft in quoted:
        check_sources(block, draft)
        (source,) = draft.sources
        held = tiny.tokenizer.decode(whole[source.token_start : source.token_end])
        assert draft.text in held
        for fewer in (
            whole[source.token_start + 1 : source.token_end],
            whole[source.token_start : source.token_end - 1],
        ):
            assert draft.text not in tiny.tokenizer.decode(fewer)
