"""Corpora through both clients, on the real stack: built by the worker, found, quoted over the rooms, forgotten."""

import uuid

import pytest

from palimpsest import Client
from palimpsest.client.corpora import NewDocument
from palimpsest.errors import NotFound

MODEL = "datastore-tiny"
DOCUMENTS = {
    "fox": "the quick brown fox jumps over the lazy dog and the lazy dog jumps over the brown fox. " * 4,
    "fixtures": "Fixtures every kind of test shares: a real Valkey, settings in a scratch folder. " * 4,
    "café": "naïve café — 雪の🦊 jumps over 雪 and the quick émigré; ça va. " * 4,
}
EAGER = {"mu": 1.0, "alpha": 1.0, "tau": 0.1, "neighbors": 32, "passages": 16}
"""Quotes whatever it finds: a random model's own words are worth nothing."""


@pytest.fixture(scope="module")
def registered(stack, tiny_model):
    with Client(stack.target, token=stack.token) as client:
        client.models.register_model(model_id=MODEL, source=str(tiny_model)).result(timeout=60)
    return MODEL


@pytest.fixture
async def corpus(twin, registered):
    made = await twin.call(
        twin.client.datastore.create_corpus,
        corpus_id=f"client-{uuid.uuid4().hex[:8]}",
        model=registered,
        encoder="hashed-words",
        passage_tokens=24,
        left_context=8,
    )
    documents = [NewDocument(name, text, title=name.title()) for name, text in DOCUMENTS.items()]
    answers = [each async for each in twin.each(twin.client.datastore.add(made.name, documents))]
    assert [(a.document, a.version) for a in answers] == [(name, 1) for name in DOCUMENTS]
    return made.name


async def done(twin, call, **fields):
    """A job's result."""
    return await twin.call((await twin.call(call, **fields)).result, timeout=120)


async def test_the_worker_builds_what_the_server_serves(twin, corpus):
    datastore = twin.client.datastore
    built = await done(twin, datastore.build_index, corpus=corpus)
    assert (built.document_count, built.unsealed_tokens, built.segment_count) == (3, 0, 1)
    assert (await done(twin, datastore.warm_keys, corpus=corpus)).computed > 0
    calibrated = await done(twin, datastore.calibrate, corpus=corpus)
    seen = await twin.call(datastore.get_corpus, name=corpus)
    assert seen.calibration == calibrated.calibration
    assert seen.key_blocks > 0
    found = await twin.call(datastore.search, corpora=[corpus], query="a real Valkey", limit=1)
    assert found.hits[0].source.document == "fixtures"
    assert await twin.call(datastore.read, corpus, "café") == DOCUMENTS["café"].encode()


async def test_what_is_quoted_is_what_is_stored_until_it_is_deleted(twin, corpus):
    decoding, datastore = twin.client.decoding, twin.client.datastore
    asked = {
        "model": MODEL,
        "corpora": [corpus],
        "prompt": "the quick brown fox",
        "max_tokens": 40,
        "nest": EAGER,
    }
    cited = await twin.call(decoding.cited, **asked, ignore_eos=True)
    assert cited.quotes
    for quote in cited.quotes:
        for source in quote.span.sources:
            stored = DOCUMENTS[source.document].encode()
            assert stored[source.range.byte_start : source.range.byte_end] == quote.text.encode()
    receipt = await twin.call(datastore.delete_documents, corpus=corpus, documents=["fox"])
    assert [each.document for each in receipt.deleted] == ["fox"]
    again = await twin.call(decoding.cited, **asked, ignore_eos=True)
    assert "fox" not in {source.document for source in again.sources}
    purged = await done(twin, datastore.purge, corpus=corpus)
    assert purged.purged_count == 1
    with pytest.raises(NotFound):
        await twin.call(datastore.read, corpus, "fox")
    await twin.call(datastore.delete_corpus, name=corpus)
    with pytest.raises(NotFound):
        await twin.call(datastore.get_corpus, name=corpus)
