"""What a request leaves open: the weight of the n-grams, the strategy, and where the tuner keeps what it finds."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
import redis

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.artifacts import ArtifactStore
from palimpsest.decoding.drafts import DraftSettings, DraftStrategy
from palimpsest.decoding.quoting.revocations import Revocations
from palimpsest.engine import Hosted, Request
from palimpsest.lm import TokenBytes
from services.decoding.drafts.messages import DEFAULT_MAX_TOKENS, request_of
from services.decoding.drafts.planning import ALPHA, DraftPlanner, gate_by_coverage
from services.decoding.drafts.tuning import Tuned, prefixes_of, trials
from services.decoding.generation import quoted_drafts
from tests.unit.quoting.blocks import block_of

from .running import PROMPTS, prompt, run

Drafts = pb.DraftSettings
ROOMS = SimpleNamespace(datastore=None)
FAST = Tuned(alpha=0.54, temperature=0.04, perplexity=3.0)


@pytest.mark.parametrize("tuned", [None, FAST])
def test_the_gate(store, tiny, documents, tuned):
    known = Request(documents[0])
    strange = Request([*range(100, 116)])
    plain = DraftSettings(strategy=DraftStrategy.SUPERPOSED)
    settings, coverage = gate_by_coverage(Drafts(), plain, store, tuned, known)
    assert coverage == store.coverage(documents[0][-16:]) > 0.5
    assert settings.alpha == (ALPHA if tuned is None else 0.54)
    assert settings.temperature == (0.06 if tuned is None else 0.04)
    settings, coverage = gate_by_coverage(Drafts(), plain, store, tuned, strange)
    assert (settings.alpha, coverage) == (0.0, 0.0)
    # The caller's own values are never overruled, whatever the store knows.
    settings, _ = gate_by_coverage(Drafts(alpha=0.2), plain, store, tuned, strange)
    assert settings.alpha == 0.2
    assert settings.temperature == (0.06 if tuned is None else 0.04)
    settings, _ = gate_by_coverage(Drafts(alpha=0.0), plain, store, tuned, known)
    assert settings.alpha == 0.0
    asked = Drafts(temperature=0.5)
    settings, _ = gate_by_coverage(asked, DraftSettings(temperature=0.5), store, tuned, known)
    assert settings.temperature == 0.5
    settings, _ = gate_by_coverage(Drafts(min_coverage=0.0), plain, store, tuned, strange)
    assert settings.alpha > 0
    settings, _ = gate_by_coverage(
        Drafts(min_coverage=1.0), plain, store, tuned, Request([*range(100, 110), *documents[0]])
    )
    assert settings.alpha == 0.0


class Catalogue:
    """What was tuned, in memory."""

    def __init__(self, *_) -> None:
        self.asked: list[tuple[str, str]] = []
        self.known: dict[tuple[str, str], Tuned] = {}

    def find(self, store: str, model: str) -> Tuned | None:
        self.asked.append((store, model))
        return self.known.get((store, model))

    def put(self, store: str, model: str, tuned: Tuned) -> None:
        self.known[store, model] = tuned


@pytest.fixture
def artifacts(valkey, redis_prefix, tmp_path) -> ArtifactStore:
    client = redis.Redis.from_url(valkey.url)
    return ArtifactStore(
        (tmp_path / "artifacts").as_uri(), client, prefix=redis_prefix, local=tmp_path / "local"
    )


def hosted(engine):
    record = SimpleNamespace(fingerprint="sha256:m", tokenizer_fingerprint="sha256:t")
    return Hosted(record, engine)  # type: ignore[arg-type]


def planned(
    planner: DraftPlanner,
    engine,
    ids,
    temperature: float = 0.0,
    nest=None,
    max_tokens: int = 0,
    k: int = 0,
    **settings,
):
    sampling = pb.SamplingConfig(temperature=temperature)
    message = pb.DraftRequest(
        k=k, settings=pb.DraftSettings(**settings), nest=nest, max_tokens=max_tokens, sampling=sampling
    )
    return asyncio.run(planner.plan(message, request_of(message, ids), hosted(engine), ROOMS))


@pytest.fixture
def planner(store, monkeypatch):
    made = DraftPlanner(None, Catalogue())  # type: ignore[arg-type]

    async def found(*_):
        return store.digest, store

    monkeypatch.setattr(made, "_store", found)
    return made


def test_a_plan_for_healing_and_a_store(planner, make_engine, store, tiny):
    engine = make_engine()
    planner._tuned.known[store.digest, "sha256:m"] = FAST
    ids = prompt(tiny, "the quick brown fo")
    got = planned(
        planner, engine, ids, ngrams="ngramStores/s", heal=True, strategy=Drafts.STRATEGY_SUPERPOSED
    )
    assert planner._tuned.asked == [(store.digest, "sha256:m")]
    assert (got.message.store, got.message.strategy) == (store.digest, Drafts.STRATEGY_SUPERPOSED)
    strategy = got.strategy
    assert got.message.healed == strategy.healed
    assert tiny.tokenizer.decode(got.request.ids) + strategy.healed.decode() == "the quick brown fo"
    assert got.request.max_tokens == DEFAULT_MAX_TOKENS
    assert (got.message.alpha, got.message.temperature) == (strategy.settings.alpha, 0.04)
    (told,) = run(tiny, replace(got.request, strategy=strategy))
    assert all(d.ids[0] in strategy.allowed for d in told.drafts)


def test_a_plan_without_a_store_has_no_ngrams(planner, make_engine, tiny):
    got = planned(
        planner, make_engine(), [5, 6], alpha=0.7, strategy=Drafts.STRATEGY_BEAM, k=2, max_tokens=30
    )
    assert got.strategy.settings == DraftSettings(k=2, strategy=DraftStrategy.BEAM)
    assert (got.message.alpha, got.message.store, got.message.coverage, got.request.max_tokens) == (
        0,
        "",
        0,
        30,
    )


@pytest.mark.parametrize("samples", [False, True])
def test_auto_measures_once_and_says_what_it_expects(planner, make_engine, samples):
    engine = make_engine()
    each = Drafts.STRATEGY_NUCLEUS if samples else Drafts.STRATEGY_BEAM

    async def twice():
        sampling = pb.SamplingConfig(temperature=0.8 * samples)
        message = pb.DraftRequest(k=4, sampling=sampling, settings=Drafts(exact=True, reset_every=3))
        request = request_of(message, [5, 6, 7])
        return await asyncio.gather(
            *(planner.plan(message, request, hosted(engine), ROOMS) for _ in range(2))
        )

    steps = engine.model.forward
    passes: list[int] = []
    engine.model.forward = lambda rows, hidden=(): (passes.append(len(rows)), steps(rows, hidden))[1]
    plans = asyncio.run(twice())
    assert passes.count(32) == 3
    for plan in plans:
        assert {cost.strategy for cost in plan.message.costs} == {each, Drafts.STRATEGY_SUPERPOSED}
        assert all(cost.seconds > 0 for cost in plan.message.costs)
        assert plan.message.strategy in {each, Drafts.STRATEGY_SUPERPOSED}
        settings = plan.strategy.settings
        settings.check()
        if plan.message.strategy == each:
            assert (settings.exact, settings.reset_every) == (False, 0)


def test_auto_with_passages_judges_what_they_go_on_with(planner, make_engine, tiny):
    nest = pb.NestSettings(corpora=["corpora/c"])
    ids = prompt(tiny, PROMPTS[0])
    got = planned(planner, make_engine(), ids, nest=nest, k=2)
    assert got.message.strategy == Drafts.STRATEGY_SUPERPOSED_VERIFIED
    document = prompt(tiny, "the quick brown fox jumps over the quick brown dog. ")
    block = block_of([document], passage_tokens=99, write=TokenBytes(tiny.tokenizer))
    revocations = Revocations()
    extra = quoted_drafts(got, block, lambda *version: not revocations.is_dead(*version))
    assert [tiny.tokenizer.decode(one.ids)[:4] for one in extra] == [" fox", " dog"]
    text = tiny.tokenizer.decode(extra[0].ids)
    assert extra[0].sources(text)
    revocations.revoke("corpora/c", "d0")
    assert extra[0].sources(text) == ()


def test_prefixes_are_spread_over_the_text():
    ids = list(range(1000))
    found = prefixes_of(ids, 4, 15)
    assert found == [ids[n : n + 15] for n in (0, 250, 500, 750)]
    assert prefixes_of(ids[:60], 24, 15) == [ids[0:15], ids[30:45]]
    assert prefixes_of(ids[:24], 24, 15) == []


def test_trials_are_judged_by_the_model(make_engine, store, tiny):
    import math

    from .plain import Plain

    engine = make_engine()
    prefixes = [prompt(tiny, text) for text in PROMPTS[:3]]
    checks: list[int] = []
    found = list(trials(engine, store, prefixes, 2, lambda: checks.append(1), (0.0,), (0.06, 0.1)))
    assert [(t.alpha, t.temperature) for t in found] == [(0.0, 0.06), (0.0, 0.1)]
    assert len(checks) == 6
    means, best = [], []
    for ids in prefixes:
        plain = Plain(tiny, ids, tiny.eos_ids)
        own = [-sum(plain.exact(item.ids)) / len(item.ids) for item in plain.superposed(2)]
        means += own
        best.append(min(own))
    assert found[0].perplexity == pytest.approx(math.exp(sum(means) / len(means)), rel=1e-3)
    assert found[0].best_perplexity == pytest.approx(math.exp(sum(best) / len(best)), rel=1e-3)


@pytest.mark.parametrize("samples", [False, True])
def test_auto_in_a_cache_too_small_to_measure_in(planner, make_engine, samples):
    engine = make_engine(cache_bytes=1)
    assert engine.model.limits.cache_blocks < 34
    got = planned(planner, engine, [5, 6, 7], 0.8 * samples, k=2, exact=True, max_tokens=4)
    assert got.message.strategy == (Drafts.STRATEGY_NUCLEUS if samples else Drafts.STRATEGY_BEAM)
    assert not got.message.costs
