"""Sessions over real calls: candidate blocks and keys, quotes verified, deletions watched and purged."""

import asyncio
import hashlib

import numpy as np
import pytest

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    Reason,
)
from tests.integration.datastore.shared import FACTS, Watching, add, block_of, found, to_the_end


async def test_a_session_ships_the_block_and_keys_come_back(client, corpus):
    text = " ".join(FACTS.values()) * 3
    await add(client, corpus, {"all": text, **FACTS})
    block = await block_of(client, corpus, "first compiler", passages=5)
    assert len(block.passages) == 5
    assert not block.present.any()
    whole = text.encode()
    for number, passage in enumerate(block.passages):
        data = whole if passage.document == "all" else FACTS[passage.document].encode()
        assert data[passage.byte_start : passage.byte_start + len(passage.text)] == passage.text
        assert passage.char_start == len(data[: passage.byte_start].decode())
        assert passage.token_start == 16 * passage.passage
        assert len(block.left[number]) == min(8, passage.token_start)
    scores = [p.score for p in block.passages]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0
    chosen = block.passages[0]
    count = len(block.ids(0))
    keys = np.random.default_rng(0).integers(-127, 128, (count, 64), np.int8)
    ones = np.ones(count, "<f4")

    def blocks(**changes):
        fields = {
            "document": chosen.document, "version": chosen.version, "passage": chosen.passage,
            "keys": keys.tobytes(), "scales": ones.tobytes(), "norms": (2 * ones).tobytes(),
        }  # fmt: skip

        async def parts(fingerprint=corpus.model_fingerprint):
            begin = pb.PutKeysRequest.Begin(corpus=corpus.name, model_fingerprint=fingerprint)
            yield pb.PutKeysRequest(begin=begin)
            yield pb.PutKeysRequest(block=pb.PutKeysRequest.Block(**{**fields, **changes}))

        return parts

    put = await client.datastore.put_keys(blocks()())
    assert (put.stored, put.skipped) == (1, 0)
    again = await block_of(client, corpus, "first compiler", passages=5)
    assert again.present.tolist() == [True, False, False, False, False]
    assert np.array_equal(again.keys[:count], keys)
    assert again.norms[:count].tolist() == [2.0] * count
    put = await client.datastore.put_keys(blocks(document="gone")())
    assert (put.stored, put.skipped) == (0, 1)
    bad = [{"keys": keys.tobytes()[:-1]}, {"passage": 99}, {"scales": (np.nan * ones).tobytes()}]
    for changes in bad:
        with pytest.raises(InvalidArgument) as refused:
            await client.datastore.put_keys(blocks(**changes)())
        assert refused.value.reason == Reason.KEYS_INVALID
    with pytest.raises(FailedPrecondition) as refused:
        await client.datastore.put_keys(blocks()("sha256:other"))
    assert refused.value.reason == Reason.CORPUS_MODEL_MISMATCH
    with pytest.raises(FailedPrecondition) as refused:
        await block_of(client, corpus, "x", model_fingerprint="sha256:other")
    assert refused.value.reason == Reason.CORPUS_MODEL_MISMATCH


async def test_warming_gives_every_passage_its_keys(client, corpus, run):
    await add(client, corpus, {**FACTS, "copy": FACTS["ada"]})
    result = run("warm_keys", corpus)
    assert result.computed > 0
    assert (await block_of(client, corpus, "machine", passages=64)).present.all()
    stat = await client.datastore.get_corpus(name=corpus.name)
    assert stat.key_blocks == result.computed == stat.passage_count or stat.key_blocks < stat.passage_count
    again = run("warm_keys", corpus)
    assert (again.computed, again.present) == (0, result.computed)


async def test_quotes_are_verified_byte_for_byte(client, corpus):
    await add(client, corpus, {"a": FACTS["ada"], "b": FACTS["alan"]})
    data = FACTS["ada"].encode()

    def span(start, end, text, document="a", version=1):
        digest = hashlib.sha256(text).hexdigest()
        return {
            "corpus": corpus.name, "document": document, "version": version,
            "byte_start": start, "byte_end": end, "sha256": digest,
        }  # fmt: skip

    spans = [span(4, 9, data[4:9]), span(4, 9, b"other"), span(4, 999, data), span(9, 4, b""), span(0, 1, b"A", "c"),
             span(0, 1, b"A", version=2)]  # fmt: skip
    verdicts = (await client.datastore.verify_spans(spans=spans)).verdicts
    names = [pb.VerifySpansResponse.Verdict.Name(v).removeprefix("VERDICT_") for v in verdicts]
    assert names == ["EXACT", "DIFFERENT", "OUT_OF_RANGE", "OUT_OF_RANGE", "GONE", "GONE"]
    await client.datastore.delete_documents(corpus=corpus.name, documents=["a"])
    (verdict,) = (await client.datastore.verify_spans(spans=spans[:1])).verdicts
    assert verdict == pb.VerifySpansResponse.VERDICT_GONE


async def test_deletions_wait_for_those_who_watch(client, corpus):
    await add(client, corpus, FACTS)
    watching = Watching(client, corpus)
    first = await anext(watching.stream)
    assert (first.tombstone_version, list(first.deleted)) == (0, [])
    deleting = asyncio.create_task(client.datastore.delete_documents(corpus=corpus.name, documents=["ada"]))
    news = await anext(watching.stream)
    assert [(d.document, d.version) for d in news.deleted] == [("ada", 1)]
    assert "ada" not in await found(client, corpus, "program machine", limit=50)
    # A whole deletion that nobody watches takes place meanwhile.
    unwatched = await client.datastore.create_corpus(
        corpus_id=f"{corpus.name.partition('/')[2]}-unwatched", model="tiny", encoder="hashed-words"
    )
    await add(client, unwatched, {"ada": FACTS["ada"]})
    receipt = await client.datastore.delete_documents(corpus=unwatched.name, documents=["ada"])
    assert (len(receipt.deleted), receipt.watchers_acknowledged, receipt.watchers_broken) == (1, 0, 0)
    assert not deleting.done()
    watching.queue.put_nowait(news.tombstone_version)
    receipt = await deleting
    assert (receipt.watchers_acknowledged, receipt.watchers_broken) == (1, 0)
    # A replaced version is gone too.
    adding = asyncio.create_task(add(client, corpus, {"alan": "Something else."}))
    news = await anext(watching.stream)
    assert [(d.document, d.version) for d in news.deleted] == [("alan", 1)]
    watching.queue.put_nowait(news.tombstone_version)
    await adding
    watching.stream.close()


async def test_who_does_not_acknowledge_is_cut_off(client, corpus, impatient):
    await add(client, corpus, FACTS)
    watching = Watching(client, corpus)
    await anext(watching.stream)
    receipt = await client.datastore.delete_documents(corpus=corpus.name, documents=["ada"])
    assert (receipt.watchers_acknowledged, receipt.watchers_broken) == (0, 1)
    with pytest.raises(Aborted) as broken:
        await asyncio.wait_for(to_the_end(watching.stream), 10)
    assert broken.value.reason == Reason.WATCH_BROKEN


async def test_deletions_of_other_processes_are_told_too(client, corpus, resources):
    from services.datastore.store.catalogue import CorpusCatalogue

    await add(client, corpus, FACTS)
    watching = Watching(client, corpus)
    await anext(watching.stream)
    other = CorpusCatalogue(resources.settings.state_dir / "corpora").open(
        "local", corpus.name.partition("/")[2]
    )
    other.corpus.delete(["grace"])
    news = await anext(watching.stream)
    assert [d.document for d in news.deleted] == ["grace"]
    watching.stream.close()


async def test_a_purge_gives_a_receipt_and_leaves_no_byte(client, corpus, run, resources):
    secret = b"the vault opens with 7 turns left, then 3 right, then it asks for the captain's name"
    await add(client, corpus, {**FACTS, "secret": secret})
    run("build_index", corpus)
    run("warm_keys", corpus)
    await client.datastore.delete_documents(corpus=corpus.name, documents=["secret"])
    receipt = run("purge", corpus)
    assert [(d.document, d.version) for d in receipt.purged] == [("secret", 1)]
    assert receipt.shingles > 50
    assert receipt.key_blocks > 0
    files = [p for p in (resources.settings.state_dir / "corpora").rglob("*") if p.is_file()]
    assert files
    assert not [p for p in files if secret[5:40] in p.read_bytes()]
    stat = await client.datastore.get_corpus(name=corpus.name)
    assert (stat.document_count, stat.epoch >= receipt.epoch) == (3, True)
    assert (await found(client, corpus, "moth"))[0] == "grace"


async def test_a_job_for_the_same_state_is_the_same_job(client, corpus):
    await add(client, corpus, FACTS)
    first = await client.datastore.build_index(corpus=corpus.name)
    second = await client.datastore.build_index(corpus=corpus.name)
    assert first.name == second.name
    await add(client, corpus, {"more": "text"})
    third = await client.datastore.build_index(corpus=corpus.name)
    assert third.name != first.name
