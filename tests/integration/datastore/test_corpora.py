"""Corpora over real calls: documents in and out, found, versioned, listed."""

import hashlib

import pytest

from palimpsest.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Reason,
)
from tests.integration.datastore.shared import FACTS, add, found
from tests.waiting import until_async


async def test_a_corpus_is_made_once(client, corpus):
    fields = {"model": "tiny", "encoder": "hashed-words", "passage_tokens": 16, "left_context": 8}
    corpus_id = corpus.name.removeprefix("corpora/")
    again = await client.datastore.create_corpus(corpus_id=corpus_id, **fields)
    assert again == corpus
    assert (again.key_size, again.passage_tokens, again.left_context, again.epoch) == (64, 16, 8, 0)
    with pytest.raises(AlreadyExists) as taken:
        await client.datastore.create_corpus(corpus_id=corpus_id, **{**fields, "passage_tokens": 32})
    assert taken.value.reason == Reason.CORPUS_EXISTS
    assert corpus.name in {c.name for c in (await client.datastore.list_corpora()).corpora}
    await client.datastore.delete_corpus(name=corpus.name)
    for call in (client.datastore.get_corpus, client.datastore.delete_corpus):
        with pytest.raises(NotFound) as gone:
            await call(name=corpus.name)
        assert gone.value.reason == Reason.CORPUS_NOT_FOUND
    assert (await client.datastore.create_corpus(corpus_id=corpus_id, **fields)).document_count == 0


async def test_documents_come_back_byte_for_byte(client, corpus, run):
    data = "BOM \ufeff, \r\n, e\u0301, 👩‍👩‍👧, \0, <|im_end|>, العربية. ".encode() * 9000
    (answer,) = await add(client, corpus, {"odd": data})
    assert (answer.version, answer.changed, answer.sha256) == (1, True, hashlib.sha256(data).hexdigest())
    for _ in range(2):
        assert await client.datastore.read(corpus.name, "odd") == data
        stat = await client.datastore.stat_document(corpus=corpus.name, document="odd")
        assert (stat.size_bytes, stat.sha256, stat.title) == (len(data), answer.sha256, "About odd")
        async with client.datastore.get_document(
            corpus=corpus.name, document="odd", byte_start=7, byte_end=400_000
        ) as stream:
            parts = [part async for part in stream]
        assert b"".join(p.data for p in parts) == data[7:400_000]
        run("build_index", corpus)
    assert (await client.datastore.get_corpus(name=corpus.name)).unsealed_tokens == 0


@pytest.mark.parametrize("sealed", [False, True])
async def test_passages_are_found_and_their_places_are_exact(client, corpus, run, sealed):
    answers = await add(client, corpus, FACTS)
    if sealed:
        run("build_index", corpus)
    for mode in ("hybrid", "dense", "sparse"):
        assert (await found(client, corpus, "who found a moth in a relay", mode=mode))[0] == "grace"
    response = await client.datastore.search(
        corpora=[corpus.name], query="machines can think", min_epochs={corpus.name: answers[-1].epoch}
    )
    assert response.hits[0].source.document == "alan"
    assert [h.score for h in response.hits] == sorted((h.score for h in response.hits), reverse=True)
    for hit in response.hits:
        source, text = hit.source, FACTS[hit.source.document].encode()
        assert text[source.byte_start : source.byte_end] == hit.text
        assert source.char_start == len(text[: source.byte_start].decode())
        assert source.document_sha256 == hashlib.sha256(text).hexdigest()


async def test_a_document_is_seen_once_acknowledged_and_gone_once_deleted(client, corpus):
    await add(client, corpus, FACTS)
    (answer,) = await add(client, corpus, {"new": "A zebra of quite another colour."})
    assert (await found(client, corpus, "zebra"))[0] == "new"
    receipt = await client.datastore.delete_documents(corpus=corpus.name, documents=["new", "nothing", "new"])
    assert [(d.document, d.version) for d in receipt.deleted] == [("new", 1)]
    assert list(receipt.missing) == ["nothing"]
    assert receipt.tombstone_version > answer.epoch
    assert "new" not in await found(client, corpus, "zebra colour", limit=100)
    with pytest.raises(NotFound):
        await client.datastore.read(corpus.name, "new")
    (again,) = await add(client, corpus, {"new": "A zebra of quite another colour."})
    assert again.version == 2


async def test_the_same_again_changes_nothing_and_another_text_is_a_version(client, corpus):
    (first,) = await add(client, corpus, {"a": FACTS["ada"]})
    (same,) = await add(client, corpus, {"a": FACTS["ada"]})
    assert (same.version, same.changed, same.epoch) == (1, False, first.epoch)
    (second,) = await add(client, corpus, {"a": FACTS["grace"]})
    assert (second.version, second.changed) == (2, True)
    assert await client.datastore.read(corpus.name, "a") == FACTS["grace"].encode()
    assert not await found(client, corpus, "Lovelace", mode="sparse")
    stream = client.datastore.get_document(corpus=corpus.name, document="a", version=1)
    with pytest.raises(NotFound):
        await anext(stream)


async def test_many_at_once_are_found_by_words_first_and_by_meaning_soon(client, corpus):
    await add(client, corpus, {f"{n}": f"moth {n} in a relay" for n in range(30)})
    assert len(await found(client, corpus, "moth", mode="sparse", limit=5)) == 5

    async def all_found() -> bool:
        try:
            return len(await found(client, corpus, "a relay with a moth", mode="dense", limit=50)) == 30
        except FailedPrecondition:
            return False

    await until_async(all_found)


async def test_copies_are_shown_once_with_their_owners(client, corpus, run):
    copies = dict.fromkeys(("one", "two", "three"), FACTS["ada"])
    for sealed in (False, True):
        await add(client, corpus, copies)
        if sealed:
            run("build_index", corpus)
        response = await client.datastore.search(corpora=[corpus.name], query="first program", limit=50)
        texts = [hit.text for hit in response.hits]
        assert len(texts) == len(set(texts)) > 1
        for hit in response.hits:
            assert {hit.source.document, *(o.document for o in hit.owners)} == set(copies)
    first = response.hits[0].source.document
    await client.datastore.delete_documents(corpus=corpus.name, documents=[first])
    response = await client.datastore.search(corpora=[corpus.name], query="first program", limit=50)
    assert response.hits
    for hit in response.hits:
        assert {hit.source.document, *(o.document for o in hit.owners)} == set(copies) - {first}


async def test_documents_are_listed_in_pages_that_survive_builds(client, corpus, run):
    await add(client, corpus, {f"d{n}": f"document {n}" for n in range(7)})
    run("build_index", corpus)
    await add(client, corpus, {f"d{n}": f"document {n}" for n in range(7, 12)})
    await client.datastore.delete_documents(corpus=corpus.name, documents=["d3", "d9"])
    names, token = [], ""
    while True:
        page = await client.datastore.list_documents(corpus=corpus.name, page_size=3, page_token=token)
        names += [d.document for d in page.documents]
        token = page.next_page_token
        if len(names) == 3:
            run("build_index", corpus)
        if not token:
            break
    assert sorted(names) == sorted(f"d{n}" for n in range(12) if n not in (3, 9))
    with pytest.raises(InvalidArgument):
        await client.datastore.list_documents(corpus=corpus.name, page_token="7")
