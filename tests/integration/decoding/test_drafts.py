"""Drafts over real calls: every strategy, n-gram stores of a corpus, quotations beside them, and every refusal."""

import asyncio
import json
import re
import socket
import uuid
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from palimpsest import AsyncClient
from palimpsest.api.datastore.v1 import datastore_pb2 as store
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client import AsyncDrafting
from palimpsest.client.corpora import NewDocument
from palimpsest.client.drafts import STRATEGIES, DraftBoard
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Reason
from palimpsest.jobs import JobContext, WorkerResources
from palimpsest.progress import NullProgress
from palimpsest.rpc.auth import hash_token
from palimpsest.rpc.server import Server
from services.datastore import DatastoreRoom, tasks
from services.decoding import DecodingRoom
from services.registry import RegistryRoom
from tests.rooms import room_settings, worker_resources
from tests.tiny import write_tiny_model
from tests.waiting import until_async

DOCUMENTS = {
    "fox": "the quick brown fox jumps over the lazy dog and the lazy dog jumps over the brown fox. " * 4,
    "café": "naïve café — 雪の🦊 jumps over 雪 and the quick émigré; ça va. " * 4,
}
PROMPT = "the quick brown fox"
NAMED = [name for name in STRATEGIES if name != "auto"]


@pytest.fixture(scope="module")
def resources(
    valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> WorkerResources:
    """What a worker has; "other" has a tokenizer of its own."""
    settings = room_settings(
        valkey, tmp_path_factory.mktemp("drafts"), engine_cache_bytes=32 << 20, engine_max_models=2
    )
    other = write_tiny_model(tmp_path_factory.mktemp("other-llama"))
    data = json.loads((other / "tokenizer.json").read_text())
    data["model"]["merges"].pop()
    other.joinpath("tokenizer.json").write_text(json.dumps(data))
    return worker_resources(settings, tiny=tiny_model, other=other)


@pytest.fixture
async def corpus(library: AsyncClient) -> str:
    made = await library.datastore.create_corpus(
        corpus_id=f"c-{uuid.uuid4().hex[:8]}", model="tiny", encoder="hashed-words", passage_tokens=24
    )
    new = [NewDocument(name, text, title=name.title()) for name, text in DOCUMENTS.items()]
    async for answer in library.datastore.add(made.name, new):
        assert not answer.HasField("error"), answer
    return made.name


@pytest.fixture
async def ngrams(corpus: str, resources: WorkerResources) -> store.NgramStore:
    """A store of the corpus, by its job."""
    request = store.BuildNgramStoreRequest(store_id=corpus.removeprefix("corpora/"), corpus=corpus)
    context = JobContext("job", "local", 1, NullProgress(), resources)
    return await asyncio.to_thread(tasks.build_ngram_store, request, context)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def drafting(client: AsyncClient, **fields: Any) -> AsyncDrafting:
    plain = {"model": "tiny", "max_tokens": 8, "ignore_eos": True}
    return client.decoding.drafts(**{**plain, **({} if "tokens" in fields else {"prompt": PROMPT}), **fields})


async def finished(client: AsyncClient, **fields: Any) -> AsyncDrafting:
    done = drafting(client, **fields)
    await done.result()
    return done


@pytest.mark.parametrize("strategy", NAMED)
async def test_every_strategy_tells_its_drafts_as_they_come_and_best_first(client, tokenizer, strategy):
    ids = tokenizer(PROMPT).input_ids
    settings = {"strategy": STRATEGIES[strategy]}
    events, board = [], DraftBoard()
    async with client.decoding.draft(
        model="tiny", tokens=ids, k=3, max_tokens=8, settings=settings
    ) as stream:
        async for event in stream:
            events.append(event.WhichOneof("event"))
            board.take(event)
    assert events[:2] == ["planned", "started"]
    assert events[-1] == "summary"
    assert events.count("delta") >= 3
    assert events[-1 - len(board.drafts) : -1] == ["finished"] * len(board.drafts)
    assert board.plan.strategy == strategy
    assert not board.plan.costs
    assert 1 <= len(board.drafts) <= 3
    assert len({draft.text for draft in board.drafts}) == len(board.drafts)
    for draft in board.drafts:
        assert board.texts[draft.slot] == draft.text
        assert tuple(board.token_ids[draft.slot]) == draft.token_ids
    if strategy == "superposed":
        assert {draft.logprob for draft in board.drafts} == {None}
        means = [draft.score for draft in board.drafts]
    else:
        means = [draft.logprob / len(draft.token_ids) for draft in board.drafts]
        best = board.drafts[0]
        scored = await client.decoding.score(
            model="tiny", tokens=[*ids, *best.token_ids], skip_tokens=len(ids)
        )
        assert best.logprob == pytest.approx(scored.total_logprob, abs=1e-3)
        assert list(best.token_logprobs) == pytest.approx([t.logprob for t in scored.tokens], abs=1e-3)
    assert means == sorted(means, reverse=True)
    assert board.summary.lm_forwards >= 7


async def test_superposed_drafts_are_read_once_more_where_that_is_asked_for(client):
    done = await finished(client, strategy="superposed", exact=True)
    assert all(draft.logprob is not None for draft in done.drafts)
    assert done.summary.verified_positions > 0


async def test_auto_says_what_it_chose_and_what_it_counted_with(client):
    done = await finished(client, strategy="auto")
    assert set(done.plan.costs) == {"beam", "superposed"}
    assert done.plan.strategy in done.plan.costs
    assert all(cost > 0 for cost in done.plan.costs.values())
    again = await finished(client, strategy="auto")
    assert set(again.plan.costs) == set(done.plan.costs)
    sampled = await finished(client, strategy="auto", sampling={"temperature": 0.8, "seed": 3})
    assert set(sampled.plan.costs) == {"nucleus", "superposed"}


async def test_samples_are_the_seeds(client):
    settings = {"strategy": "nucleus", "sampling": {"temperature": 1.0, "seed": 11}}
    one, same = await finished(client, **settings), await finished(client, **settings)
    assert one.drafts == same.drafts
    assert one.started.seed == 11


async def test_what_is_streamed_is_what_was_asked_for(client):
    for strategy in ("superposed", "beam", "nucleus"):
        reading, texts = drafting(client, strategy=strategy, streaming="committed_only"), {}
        async for update in reading:
            if (
                not reading.drafts
                and reading.summary is None
                and update.kept < len(texts.get(update.slot, ""))
            ):
                assert update.text in {d.text for d in (await finished(client, strategy=strategy)).drafts}
            texts[update.slot] = update.text
        assert [texts[draft.slot] for draft in reading.drafts] == [draft.text for draft in reading.drafts]
        silent = drafting(client, strategy=strategy, streaming="final_only")
        assert [update async for update in silent] == []
        assert silent.drafts
        assert silent.texts == []


async def test_a_store_of_the_corpus_weighs_in_where_it_knows_the_text(client, ngrams):
    done = await finished(client, strategy="superposed", ngrams=ngrams.name)
    assert done.plan.store == ngrams.artifact
    assert done.plan.coverage == 1.0
    assert (done.plan.alpha, done.plan.temperature) == pytest.approx((0.5, 0.06))
    assert done.summary.lookup_seconds > 0
    # The more drafts are made, the more candidates of a random model there are for the n-grams to choose from.
    weighed = {"strategy": "verified", "ngrams": ngrams.name, "k": 10, "over_generate": 40}
    followed = await finished(client, **weighed, alpha=1.0)
    ignored = await finished(client, **weighed, alpha=0.001)
    assert min(draft.ngram_share for draft in followed.drafts) > 0.4
    assert max(draft.ngram_share for draft in ignored.drafts) < 0.4
    elsewhere = {"strategy": "superposed", "ngrams": ngrams.name, "prompt": "ZQXJ KVWZ QQXX 0918273645"}
    gated = await finished(client, **elsewhere)
    assert gated.plan.coverage < 0.5
    assert gated.plan.alpha == 0
    assert (await finished(client, **elsewhere, min_coverage=0.0)).plan.alpha == pytest.approx(0.5)
    assert (await finished(client, **elsewhere, alpha=0.7)).plan.alpha == pytest.approx(0.7)


async def test_stores_that_do_not_fit_are_refused(client, ngrams):
    with pytest.raises(FailedPrecondition) as wrong:
        await finished(client, model="other", strategy="superposed", ngrams=ngrams.name)
    assert wrong.value.reason == Reason.NGRAMS_TOKENIZER_MISMATCH
    with pytest.raises(NotFound) as missing:
        await finished(client, strategy="superposed", ngrams="ngramStores/nowhere")
    assert missing.value.reason == Reason.NGRAM_STORE_NOT_FOUND


async def test_whose_token_may_not_read_the_datastore_gets_no_store(resources, ngrams, tmp_path):
    scopes = {"both": ["decoding.*", "datastore.read"], "half": ["decoding.*"]}
    tokens = [{"name": name, "sha256": hash_token(name), "scopes": each} for name, each in scopes.items()]
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": tokens}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    guarded = resources.settings.model_copy(
        update={"listen": f"127.0.0.1:{port}", "tokens_file": tmp_path / "tokens.json"}
    )
    server = Server(guarded, [RegistryRoom(), DatastoreRoom(), DecodingRoom()])
    await server.start()
    try:
        for name, refusal in (
            ("half", PermissionDenied),
            ("both", NotFound),
        ):  # the store is another caller's
            async with AsyncClient(f"127.0.0.1:{server.port}", token=name) as client:
                with pytest.raises(refusal):
                    await finished(client, strategy="superposed", ngrams=ngrams.name)
                assert (await finished(client, strategy="beam")).drafts
    finally:
        await server.stop()


BAD: list[tuple[str, dict[str, Any]]] = [
    ("k", {"k": 11}),
    ("k", {"k": -1}),
    ("settings.alpha", {"alpha": 1.5}),
    ("settings.temperature", {"temperature": float("nan")}),
    ("settings.diversity", {"diversity": -1.0, "strategy": "diverse"}),
    ("settings.over_generate", {"over_generate": 2, "strategy": "verified"}),
    ("settings.over_generate", {"over_generate": 6, "strategy": "superposed"}),
    ("settings.reset_every", {"reset_every": 4, "strategy": "beam"}),
    ("settings.ngrams", {"ngrams": "../elsewhere"}),
    ("settings.strategy", {"strategy": "beam", "corpora": ["corpora/nowhere"]}),
    ("max_tokens", {"max_tokens": 257}),
]


@pytest.mark.parametrize(("field", "fields"), BAD, ids=[f"{f}-{n}" for n, (f, _) in enumerate(BAD)])
async def test_settings_that_cannot_be_are_refused_by_name(client, field, fields):
    with pytest.raises(InvalidArgument) as wrong:
        await finished(client, **{"strategy": "superposed", **fields})
    assert [violation.field for violation in wrong.value.violations] == [field]


async def test_a_prompt_that_does_not_fit_is_refused_with_both_lengths(client):
    for strategy in ("superposed", "beam"):
        with pytest.raises(InvalidArgument) as wrong:
            await finished(client, strategy=strategy, tokens=[40] * 2047)
        assert wrong.value.reason == Reason.PROMPT_TOO_LONG
    with pytest.raises(InvalidArgument) as empty:
        await finished(client, prompt="")
    assert empty.value.reason == Reason.PROMPT_EMPTY


@pytest.mark.parametrize("strategy", ["superposed", "verified", "beam"])
async def test_leaving_in_the_middle_frees_the_engine(client, strategy):
    async def loaded() -> pb.GetEngineInfoResponse.LoadedModel:
        info = await client.decoding.get_engine_info()
        return next(model for model in info.models if model.model == "tiny")

    await finished(client)
    before = await loaded()
    async with drafting(client, strategy=strategy, k=8, max_tokens=256) as reading:
        async for _ in reading:
            break

    async def idle() -> bool:
        now = await loaded()
        return now.running == now.waiting == 0

    await until_async(idle)
    after = await loaded()
    assert reading.summary is None
    assert after.decode_steps - before.decode_steps < 255
    assert after.cache_bytes_used <= before.cache_bytes_limit // 2
    assert (await finished(client)).drafts


@pytest.mark.parametrize("strategy", NAMED)
async def test_a_prompt_that_ends_within_a_word_is_healed(client, tokenizer, strategy):
    done = await finished(client, prompt="over the laz", strategy=strategy, heal=True)
    healed = done.plan.healed.decode()
    assert healed
    assert "over the laz".endswith(healed)
    for draft in done.drafts:
        said = tokenizer.decode(draft.token_ids, skip_special_tokens=True)
        assert said == healed + draft.text
        assert tokenizer.decode(draft.token_ids[:1]).startswith(healed)
    whole = await finished(client, prompt="over the lazy dog.", strategy=strategy, heal=True)
    assert whole.plan.healed == b""


@pytest.mark.parametrize(("stop_at", "ends"), [("word", r"\s*\S+"), ("line", r"\s*\S[^\n]*")])
async def test_drafts_end_where_they_are_to(client, stop_at, ends):
    sampling = {"temperature": 1, "seed": 5}
    done = await finished(client, strategy="nucleus", k=10, max_tokens=60, stop_at=stop_at, sampling=sampling)
    stopped = [draft for draft in done.drafts if draft.reason == "stop"]
    assert stopped
    for draft in stopped:
        assert re.fullmatch(ends, draft.text, re.DOTALL), draft.text
        assert draft.stop == ""


async def test_a_sentence_ends_with_its_mark(client, corpus):
    done = await finished(
        client, prompt="émigré; ça v", corpora=[corpus], **{**QUOTING, "stop_at": "sentence"}
    )
    (quoted,) = (draft for draft in done.drafts if draft.sources)
    assert (quoted.text, quoted.reason, quoted.stop) == ("a.", "stop", "")


async def test_a_stop_string_ends_a_draft_and_is_no_part_of_it(client):
    done = await finished(
        client, strategy="nucleus", k=8, max_tokens=80, stop=["e"], sampling={"temperature": 1, "seed": 2}
    )
    stopped = [draft for draft in done.drafts if draft.reason == "stop"]
    assert {draft.stop for draft in stopped} == {"e"}
    assert not any("e" in draft.text for draft in done.drafts)


QUOTING: dict[str, Any] = {"k": 10, "over_generate": 10, "max_tokens": 3, "stop_at": "word"}
"""Few other drafts, and short ones: a random model likes its own words better than anybody's."""


async def test_what_a_corpus_goes_on_with_is_a_draft_with_its_sources(client, library, corpus):
    done = await finished(client, prompt="jumps over the lazy", corpora=[corpus], **QUOTING)
    assert done.plan.strategy == "verified"
    quoted = [draft for draft in done.drafts if draft.sources]
    assert quoted
    for draft in quoted:
        assert draft.logprob is not None
        for source in draft.sources:
            data = await library.datastore.read(source.corpus, source.document)
            assert data[source.range.byte_start : source.range.byte_end].decode() == draft.text
            assert source.title == source.document.title()
    # Nobody searched by keys: none were computed, and none stored.
    assert (await library.datastore.get_corpus(name=corpus)).key_blocks == 0
    await library.datastore.delete_documents(corpus=corpus, documents=["fox"])
    after = await finished(client, prompt="jumps over the lazy", corpora=[corpus], **QUOTING)
    assert "fox" not in {source.document for draft in after.drafts for source in draft.sources}


async def test_a_corpus_that_is_not_there_ends_the_stream(client):
    with pytest.raises(NotFound):
        await finished(client, corpora=["corpora/nowhere"])


@pytest.mark.parametrize("token", [384, 2**31 - 1, 2**31, 2**32 - 1])
async def test_token_ids_of_no_vocabulary_are_refused_whatever_else_is_asked(client, ngrams, corpus, token):
    """An n-gram store keeps 32 bits with a sign, and healing looks a token up."""
    ids = {"tokens": {"ids": [5, token]}, "model": "tiny"}
    calls = [
        client.decoding.draft(**ids, settings={"strategy": "superposed", "ngrams": ngrams.name}),
        client.decoding.draft(**ids, settings={"strategy": "superposed", "heal": True}),
        client.decoding.draft(**ids, nest={"corpora": [corpus]}),
        client.decoding.generate(**ids, nest={"corpora": [corpus]}),
        client.decoding.generate(**ids),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument) as refused:
            async for _ in call:
                pass
        assert refused.value.reason == Reason.TOKEN_ID_OUT_OF_RANGE
    for more in ({}, {"nest": {"corpora": [corpus]}}):
        with pytest.raises(InvalidArgument) as refused:
            await client.decoding.score(**ids, **more)
        assert refused.value.reason == Reason.TOKEN_ID_OUT_OF_RANGE
