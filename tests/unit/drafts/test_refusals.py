"""What drafts cannot be: each refusal with its reason and field."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.decoding.drafts import DraftRequest, DraftSettings, DraftStrategy, Proposal, StopAt, Streaming
from palimpsest.engine import Request
from palimpsest.engine.limits import check_request
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.lm import Sampling
from palimpsest.lm.generic import ModuleCache
from services.decoding.drafts.messages import STRATEGIES, settings_of
from services.decoding.quoting.quotation import may_quote

NAN, INF = float("nan"), float("inf")


@contextmanager
def refused(field: str) -> Iterator[None]:
    with pytest.raises(InvalidArgument) as info:
        yield
    assert info.value.reason == Reason.DRAFT_SETTINGS_INVALID
    assert [violation.field for violation in info.value.violations] == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("k", value) for value in (0, -1, 11)),
        *(("alpha", value) for value in (-0.1, 1.1, NAN, INF)),
        *(("temperature", value) for value in (-0.1, 100.1, NAN, INF)),
        *(("candidates", value) for value in (-1, 2, 1025)),
        *(
            ("order_weights", value)
            for value in ((), (0.1,) * 4, (0.1,) * 6, (0.0,) * 5, (0.1, 0.1, 0.1, 0.1, 1.1), (0.1, -0.1, 0.1, 0.1, 0.1),
                          (0.1, NAN, 0.1, 0.1, 0.1), (INF, 0.1, 0.1, 0.1, 0.1))
        ),
        *(("penalty", value) for value in (-1.0, 10_001.0, NAN, INF)),
        *(("reset_every", value) for value in (-1, 257)),
        *(("diversity", value) for value in (-1.0, 10_001.0, NAN, INF)),
    ],
)  # fmt: skip
def test_settings_out_of_range(field, value):
    settings = DraftSettings(strategy=DraftStrategy.SUPERPOSED, **{field: value})
    named = field if field == "k" else f"settings.{field}"
    with refused(named):
        settings.check()
    with refused(named):
        DraftRequest(settings).check(None, Request([1], max_tokens=5))


@pytest.mark.parametrize("over", [-1, 2, 41])
def test_over_generate_out_of_range(over):
    with refused("settings.over_generate"):
        DraftSettings(k=3, over_generate=over).check()


def test_candidates_are_no_fewer_than_the_drafts_made():
    DraftSettings(k=3, candidates=6).check()
    with refused("settings.candidates"):
        DraftSettings(k=3, candidates=5).check()
    with refused("settings.candidates"):
        DraftSettings(k=3, over_generate=8, candidates=7).check()


@pytest.mark.parametrize("strategy", [s for s in DraftStrategy if s is not DraftStrategy.SUPERPOSED_VERIFIED])
def test_over_generate_is_for_one_strategy(strategy):
    with refused("settings.over_generate"):
        DraftSettings(k=3, strategy=strategy, over_generate=6).check()


@pytest.mark.parametrize("strategy", list(DraftStrategy))
def test_resets_are_for_superposed_drafts(strategy):
    settings = DraftSettings(k=3, strategy=strategy, reset_every=4)
    if strategy.superposes:
        settings.check()
    else:
        with refused("settings.reset_every"):
            settings.check()


def test_the_ends_of_the_ranges():
    for k in (1, 10):
        for value in (0.0, 1.0):
            DraftSettings(k=k, alpha=value, order_weights=(value, 0, 0, 0, 1.0)).check()
        DraftSettings(k=k, over_generate=40, candidates=1024, temperature=100.0, penalty=1e4).check()
        DraftSettings(
            k=k, over_generate=k, candidates=k, temperature=0.0, penalty=0.0, reset_every=256
        ).check()
        DraftSettings(k=k, strategy=DraftStrategy.DIVERSE_BEAM, diversity=1e4).check()


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("n", {"n": 2}),
        ("n", {"n": 0}),
        ("max_tokens", {"max_tokens": 257}),
        ("max_tokens", {"max_tokens": 0}),
    ],
)
def test_what_goes_with_one_text_alone(tiny, field, more):
    with refused(field):
        check_request(
            tiny, Request([1, 2], strategy=DraftRequest(DraftSettings()), **{"max_tokens": 5, **more})
        )
    check_request(tiny, Request([1, 2], max_tokens=256, strategy=DraftRequest(DraftSettings())))


@pytest.mark.parametrize("strategy", list(DraftStrategy))
def test_quotations_are_judged_by_one_strategy(tiny, strategy):
    extra = (Proposal((1, 2), lambda text: ()),)
    request = Request(
        [1, 2], max_tokens=5, strategy=DraftRequest(DraftSettings(strategy=strategy), extra=extra)
    )
    if strategy is DraftStrategy.SUPERPOSED_VERIFIED:
        check_request(tiny, request)
    else:
        with refused("settings.strategy"):
            check_request(tiny, request)


@pytest.mark.parametrize("strategy", list(DraftStrategy))
@pytest.mark.parametrize("every", [0, 2])
@pytest.mark.parametrize("exact", [False, True])
def test_caches_that_cannot_be_taken_back(strategy, every, exact):
    cache = ModuleCache.__new__(ModuleCache)
    cache._state = SimpleNamespace(layers=[object()])  # type: ignore[assignment]
    every = every if strategy.superposes else 0
    settings = DraftSettings(k=2, strategy=strategy, reset_every=every, exact=exact)
    model = SimpleNamespace(new_cache=lambda: cache)
    goes_back = settings.verifies or every
    if goes_back:
        with pytest.raises(FailedPrecondition) as info:
            DraftRequest(settings).check(model, Request([1], max_tokens=5))
        assert info.value.reason == Reason.MODEL_INVALID
    else:
        DraftRequest(settings).check(model, Request([1], max_tokens=5))
    cache._state = None  # run again as a whole: any length
    DraftRequest(settings).check(model, Request([1], max_tokens=5))


@pytest.mark.parametrize("number", [0, 1, *STRATEGIES])
@pytest.mark.parametrize("mode", [pb.NestSettings.MODE_UNSPECIFIED, pb.NestSettings.MODE_LM])
def test_quotations_are_refused_before_anything_is_looked_for(number, mode):
    request = pb.DraftRequest(
        settings=pb.DraftSettings(strategy=number), nest=pb.NestSettings(corpora=["corpora/c"], mode=mode)
    )
    strategy, quotes = STRATEGIES.get(number), may_quote(request.nest)
    assert quotes == (mode != pb.NestSettings.MODE_LM)
    if not quotes or strategy in (None, DraftStrategy.SUPERPOSED_VERIFIED):
        wanted = settings_of(request, quotes).strategy
        assert wanted is (
            strategy or (DraftStrategy.SUPERPOSED_VERIFIED if quotes else DraftStrategy.SUPERPOSED)
        )
    else:
        with refused("settings.strategy"):
            settings_of(request, quotes)


def test_settings_of_a_message():
    assert settings_of(pb.DraftRequest()) == DraftSettings(k=3, strategy=DraftStrategy.SUPERPOSED)
    full = pb.DraftSettings(
        strategy=pb.DraftSettings.STRATEGY_SUPERPOSED_VERIFIED, temperature=0.0, over_generate=9, reset_every=3,
        diversity=0.0, exact=True, stop_at=pb.DraftSettings.STOP_AT_SENTENCE,
        streaming=pb.DraftSettings.STREAMING_COMMITTED_ONLY,
    )  # fmt: skip
    assert settings_of(pb.DraftRequest(k=4, settings=full)) == DraftSettings(
        k=4, strategy=DraftStrategy.SUPERPOSED_VERIFIED, temperature=0.0, over_generate=9, reset_every=3,
        diversity=0.0, exact=True, stop_at=StopAt.SENTENCE, streaming=Streaming.COMMITTED,
    )  # fmt: skip
    with refused("settings.over_generate"):
        settings_of(pb.DraftRequest(settings=pb.DraftSettings(over_generate=6)))  # AUTO verifies nothing


def test_a_prompt_that_is_refused_for_its_length(tiny):
    ids = [5] * (tiny.context_length - 4)
    with pytest.raises(InvalidArgument) as info:
        check_request(tiny, Request(ids, Sampling(), max_tokens=5, strategy=DraftRequest(DraftSettings())))
    assert info.value.reason == Reason.PROMPT_TOO_LONG
