"""Drafts put together from the events of a stream; and what of a request goes where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.drafts import DraftBoard, drafts_request, shared_length

SLOTS = 3
Shown = tuple[str, tuple[int, ...]]
shown = st.tuples(st.text("ab é🦊\n", max_size=8), st.lists(st.integers(0, 3), max_size=6).map(tuple))


def rewriting(slot: int, before: Shown, after: Shown, keep: tuple[int, int]) -> pb.DraftDelta:
    """A delta that turns one draft into another and keeps no more than is asked for."""
    chars = min(keep[0], shared_length(before[0], after[0]))
    pairs = zip(before[1], after[1], strict=False)
    alike = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(before[1]), len(after[1])))
    tokens = min(keep[1], alike)
    return pb.DraftDelta(
        draft=slot, keep_chars=chars, keep_tokens=tokens, text=after[0][chars:], token_ids=after[1][tokens:]
    )


@given(st.lists(st.tuples(st.integers(0, SLOTS - 1), shown, st.tuples(st.integers(0, 8), st.integers(0, 6)))))
def test_rewriting_deltas_rebuild_every_text(steps):
    board, truth = DraftBoard(), [("", ())] * SLOTS
    for slot, after, keep in steps:
        delta = rewriting(slot, truth[slot], after, keep)
        update = board.take(pb.DraftResponse(delta=delta))
        truth[slot] = after
        assert update is not None
        assert (update.slot, update.text, update.kept) == (slot, after[0], delta.keep_chars)
        assert board.texts == [text for text, _ in truth[: len(board.texts)]]
        assert board.token_ids == [list(ids) for _, ids in truth[: len(board.token_ids)]]
    assert all(not text for text, _ in truth[len(board.texts) :])


def test_events_become_plan_drafts_and_summary():
    board = DraftBoard()
    verified, beam = pb.DraftSettings.STRATEGY_SUPERPOSED_VERIFIED, pb.DraftSettings.STRATEGY_BEAM
    planned = pb.DraftsPlanned(
        strategy=verified,
        costs=[pb.DraftsPlanned.Cost(strategy=beam, seconds=0.5)],
        alpha=0.3,
        coverage=0.75,
        healed=b" wo",
    )
    source = pb.QuoteSource(corpus="corpora/c", document="d")
    best = pb.DraftFinished(
        draft=2,
        text="rd",
        token_ids=[5, 6],
        reason=pb.FINISH_REASON_STOP,
        stop=".",
        logprob=-0.5,
        token_logprobs=[-0.25, -0.25],
        score=-0.25,
        sources=[source],
    )
    other = pb.DraftFinished(draft=0, rank=1, text="rm", token_ids=[5, 7], reason=pb.FINISH_REASON_LENGTH)
    events = [
        pb.DraftResponse(planned=planned),
        pb.DraftResponse(started=pb.GenerateStarted(prompt_tokens=4)),
        pb.DraftResponse(finished=best),
        pb.DraftResponse(finished=other),
        pb.DraftResponse(summary=pb.DraftsFinished(made=6, dropped=1)),
    ]
    assert [board.take(event) for event in events] == [None] * len(events)
    assert board.plan is not None
    assert (board.plan.strategy, board.plan.costs) == ("verified", {"beam": 0.5})
    assert (board.plan.healed, board.plan.coverage) == (b" wo", 0.75)
    assert board.started is not None
    assert board.started.prompt_tokens == 4
    first, second = board.drafts
    assert (first.text, first.token_ids, first.logprob, first.slot) == ("rd", (5, 6), -0.5, 2)
    assert (first.reason, first.stop, first.sources) == ("stop", ".", (source,))
    assert (second.reason, second.logprob, second.token_logprobs) == ("length", None, ())
    assert board.summary is not None
    assert board.summary.made == 6


def test_fields_go_where_they_belong():
    asked = drafts_request(
        strategy="diverse",
        corpora=["corpora/c"],
        nest={"passages": 4},
        fields={"k": 5, "alpha": 0.2, "stop": ["."], "ngrams": None},
    )
    assert asked == {
        "k": 5,
        "stop": ["."],
        "nest": {"passages": 4, "corpora": ["corpora/c"]},
        "settings": {"alpha": 0.2, "ngrams": None, "strategy": "diverse_beam"},
    }
    kept = drafts_request(strategy="beam", corpora=[], nest=None, fields={})
    assert kept == {"nest": None, "settings": {"strategy": "beam"}}
    message = pb.NestSettings(passages=4)
    made = drafts_request(strategy="verified", corpora=["corpora/c"], nest=message, fields={})["nest"]
    assert (made.passages, list(made.corpora), list(message.corpora)) == (4, ["corpora/c"], [])
    with pytest.raises(TypeError, match="no field settings"):
        drafts_request(strategy="beam", corpora=[], nest=None, fields={"settings": {}})


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_the_shared_length_is_the_longest(one, other):
    size = shared_length(one, other)
    assert one[:size] == other[:size]
    assert size in (len(one), len(other)) or one[size] != other[size]
