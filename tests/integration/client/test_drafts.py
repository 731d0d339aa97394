"""Drafts by both clients on the real stack, and tuning them: a job of the worker, heeded by the next request."""

import uuid

import pytest

from palimpsest.errors import InvalidArgument, NotFound
from tests.tiny import SENTENCE
from tests.waiting import until_async

MODEL = "drafts-tiny"
TEXT = "the quick brown fox jumps over the lazy dog and the lazy dog jumps over the brown fox. "


@pytest.fixture
async def model(twin, tiny_model):
    job = await twin.call(twin.client.models.register_model, model_id=MODEL, source=str(tiny_model))
    await twin.call(job.result, timeout=60)
    return MODEL


@pytest.fixture
def ask(twin, model):
    def ask(**fields):
        plain = {"model": model, "prompt": "the quick brown", "strategy": "beam"}
        return twin.client.decoding.drafts(**{**plain, **fields})

    return ask


async def test_updates_keep_the_present_texts_and_end_in_drafts(twin, ask):
    drafting, texts = ask(k=4, max_tokens=12), {}
    assert (drafting.texts, drafting.drafts, drafting.plan, drafting.summary) == ([], [], None, None)
    async for update in twin.each(drafting):
        before = texts.get(update.slot, "")
        assert update.text[: update.kept] == before[: update.kept]
        texts[update.slot] = update.text
        assert drafting.texts == [texts[slot] for slot in sorted(texts)]
        assert drafting.plan.strategy == "beam"
    assert [drafting.texts[draft.slot] for draft in drafting.drafts] == [d.text for d in drafting.drafts]
    assert drafting.started.prompt_tokens > 0
    assert drafting.summary.lm_forwards > 0


async def test_the_drafts_alone_are_the_result(twin, ask):
    drafts = await twin.call(ask(k=2, strategy="verified", heal=True, stop_at="word").result)
    assert 1 <= len(drafts) <= 2
    assert drafts[0].logprob is not None
    chat = [{"role": "user", "content": "hi"}]
    assert await twin.call(ask(prompt=None, chat=chat, max_tokens=3).result)


@pytest.mark.parametrize("how", ["close", "with"])
async def test_leaving_the_drafts_stops_the_work(twin, ask, how):
    drafting = ask(max_tokens=256, strategy="superposed", sampling={"seed": 1})
    async for _ in twin.each(drafting):
        break
    if how == "close":
        drafting.close()
        assert [update async for update in twin.each(drafting)] == []
    elif twin.blocking:
        with drafting:
            pass
    else:
        async with drafting:
            pass

    async def idle():
        info = await twin.call(twin.client.decoding.get_engine_info)
        return not sum(each.running + each.waiting for each in info.models)

    await until_async(idle)
    assert drafting.summary is None


async def test_refusals_come_from_reading(twin, ask):
    with pytest.raises(NotFound):
        await twin.call(ask(model="nobody").result)
    with pytest.raises(InvalidArgument) as wrong:
        await twin.call(ask(reset_every=4).result)
    assert wrong.value.violations[0].field == "settings.reset_every"
    with pytest.raises(ValueError, match="diverse_beam"):
        ask(strategy="guess")
    with pytest.raises(TypeError, match=r"drafts\(\) has no field reset_evry; did you mean reset_every"):
        ask(reset_evry=4)


async def test_what_was_tuned_is_what_the_next_request_goes_by(twin, ask, model):
    client, name = twin.client, f"s-{uuid.uuid4().hex[:8]}"
    # Its own text, so that it is tuned for nobody else.
    text = f"{TEXT * 4}{name}".encode()
    built_of = await twin.call(client.artifacts.upload, text, media_type="text/plain")
    job = await twin.call(
        client.datastore.build_ngram_store, store_id=name, text_artifact=built_of.digest, model=model
    )
    store = await twin.call(job.result, timeout=60)
    asked = {"strategy": "superposed", "ngrams": store.name}
    before = ask(**asked)
    await twin.call(before.result)
    assert (before.plan.alpha, before.plan.temperature) == pytest.approx((0.5, 0.06))

    texts = await twin.call(client.artifacts.upload, (SENTENCE * 8 + TEXT).encode(), media_type="text/plain")
    tune = {"model": model, "ngrams": store.name, "texts": texts.digest}
    job = await twin.call(client.decoding.tune_drafts, **tune, prefixes=2, k=2)
    tried = [partial.value async for partial in twin.each(job.partials(timeout=120))]
    tuned = await twin.call(job.result, timeout=120)
    assert tried == list(tuned.trials)
    assert tuned.prefixes == 2
    assert tuned.ngrams_artifact == store.artifact
    best = min(tuned.trials, key=lambda trial: trial.perplexity)
    assert (tuned.alpha, tuned.temperature) == (best.alpha, best.temperature)
    after = ask(**asked)
    await twin.call(after.result)
    assert (after.plan.alpha, after.plan.temperature) == pytest.approx((tuned.alpha, tuned.temperature))
    again = await twin.call(client.decoding.tune_drafts, **tune, prefixes=2, k=2)
    assert await twin.call(again.result, timeout=60) == tuned

    # What the server looks up on the caller's behalf is no field of the request.
    with pytest.raises(TypeError, match="ngrams_artifact"):
        await twin.call(client.decoding.tune_drafts, **tune, ngrams_artifact=store.artifact)

    short = await twin.call(client.artifacts.upload, b"too short", media_type="text/plain")
    job = await twin.call(client.decoding.tune_drafts, **{**tune, "texts": short.digest})
    with pytest.raises(InvalidArgument) as wrong:
        await twin.call(job.result, timeout=60)
    assert wrong.value.violations[0].field == "texts"
    with pytest.raises(NotFound):
        await twin.call(client.decoding.tune_drafts, **{**tune, "ngrams": "ngramStores/nowhere"})
    with pytest.raises(NotFound):
        await twin.call(client.decoding.tune_drafts, **{**tune, "texts": "sha256:" + "0" * 64})
