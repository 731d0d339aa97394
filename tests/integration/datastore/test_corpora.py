"""Corpora over real calls: documents in and out, found, quoted, watched, forgotten; and every way to be refused."""

import asyncio
import hashlib
import time

import numpy as np
import pytest

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.client.corpora import NewDocument, refusal
from palimpsest.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
)
from palimpsest.nest import Candidates
from services.datastore.settings import DatastoreSettings

FACTS = {
    "ada": "Ada Lovelace wrote the first program, for a machine that was never built.",
    "grace": "Grace Hopper found a moth in a relay and wrote the first compiler.",
    "alan": "Alan Turing asked whether machines can think, and broke a cipher.",
}


async def add(client, corpus, documents: dict[str, str | bytes], **fields) -> list[pb.AddDocumentsResponse]:
    given = [NewDocument(name, text, title=f"About {name}") for name, text in documents.items()]
    async with client.datastore.add(corpus.name, given, **fields) as answers:
        return [answer async for answer in answers]


async def found(client, corpus, query: str, **fields) -> list[str]:
    response = await client.datastore.search(corpora=[corpus.name], query=query, **fields)
    return [hit.source.document for hit in response.hits]


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
    start = time.monotonic()
    (answer,) = await add(client, corpus, {"new": "A zebra of quite another colour."})
    assert (await found(client, corpus, "zebra"))[0] == "new"
    assert time.monotonic() - start < 10
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
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            response = await client.datastore.search(
                corpora=[corpus.name], query="a relay with a moth", mode="dense", limit=50
            )
        except FailedPrecondition:
            response = pb.SearchResponse()
        if len(response.hits) == 30:
            break
        await asyncio.sleep(0.05)
    assert len(response.hits) == 30


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


async def block_of(client, corpus, query: str, **fields) -> Candidates:
    fields = {"model_fingerprint": corpus.model_fingerprint, **fields}
    return Candidates.from_bytes(await client.datastore.session(query, [corpus.name], **fields))


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


class Watching:
    """A watcher that acknowledges when told to."""

    def __init__(self, client, corpus) -> None:
        self.corpus, self.queue = corpus, asyncio.Queue()
        self.stream = client.datastore.watch_deletions(self.requests())

    async def requests(self):
        yield pb.WatchDeletionsRequest(watch={"corpora": [self.corpus.name]})
        while True:
            version = await self.queue.get()
            yield pb.WatchDeletionsRequest(
                acknowledge={"corpus": self.corpus.name, "tombstone_version": version}
            )


async def test_deletions_wait_for_those_who_watch(client, corpus):
    await add(client, corpus, FACTS)
    watching = Watching(client, corpus)
    first = await anext(watching.stream)
    assert (first.tombstone_version, list(first.deleted)) == (0, [])
    deleting = asyncio.create_task(client.datastore.delete_documents(corpus=corpus.name, documents=["ada"]))
    news = await anext(watching.stream)
    assert [(d.document, d.version) for d in news.deleted] == [("ada", 1)]
    assert "ada" not in await found(client, corpus, "program machine", limit=50)
    await asyncio.sleep(0.1)
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


async def _to_the_end(stream) -> None:
    async for _ in stream:
        pass


async def test_who_does_not_acknowledge_is_cut_off(client, corpus):
    await add(client, corpus, FACTS)
    watching = Watching(client, corpus)
    await anext(watching.stream)
    receipt = await client.datastore.delete_documents(corpus=corpus.name, documents=["ada"])
    assert (receipt.watchers_acknowledged, receipt.watchers_broken) == (0, 1)
    with pytest.raises(Aborted) as broken:
        await asyncio.wait_for(_to_the_end(watching.stream), 10)
    assert broken.value.reason == Reason.WATCH_BROKEN


async def test_deletions_of_other_processes_are_told_too(client, corpus, resources):
    from services.datastore.catalogue import CorpusCatalogue

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


# Being refused: the error table, row by row.


async def test_bad_documents_are_refused_one_by_one(client, corpus):
    answers = await add(
        client,
        corpus,
        {
            "ok": "fine",
            "latin": "caf\xe9".encode("latin-1"),
            "empty": b"",
            "": "no id",
            "tab\t": "x",
            "last": "fine too",
        },
    )
    errors = [refusal(answer) for answer in answers]
    assert [e and (type(e), e.reason) for e in errors] == [
        None,
        (InvalidArgument, Reason.DOCUMENT_ENCODING),
        (InvalidArgument, Reason.DOCUMENT_EMPTY),
        (InvalidArgument, Reason.INVALID_REQUEST),
        (InvalidArgument, Reason.INVALID_REQUEST),
        None,
    ]
    assert errors[1].metadata["offset"] == "3"
    assert errors[3].violations[0].field == "begin.document"
    assert (await client.datastore.get_corpus(name=corpus.name)).document_count == 2


def sent(corpus, *parts):
    async def messages():
        yield pb.AddDocumentsRequest(open={"corpus": corpus.name})
        for part in parts:
            yield pb.AddDocumentsRequest(**part)

    return messages()


END = {"end": {}}


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([{"chunk": b"x"}], Reason.DOCUMENT_ORDER),
        ([END], Reason.DOCUMENT_ORDER),
        ([{"begin": {"document": "a"}}, {"begin": {"document": "b"}}], Reason.DOCUMENT_ORDER),
        ([{"begin": {"document": "a"}}, {"chunk": b"x"}], Reason.DOCUMENT_ORDER),
        ([{}], Reason.DOCUMENT_ORDER),
        ([{"open": {"corpus": "corpora/x"}}], Reason.DOCUMENT_ORDER),
        ([{"begin": {"document": "a", "size_bytes": -1}}], Reason.INVALID_REQUEST),
        ([{"begin": {"document": "a" * 513}}], Reason.INVALID_REQUEST),
        ([{"begin": {"document": "a"}}, {"chunk": bytes((1 << 20) + 1)}], Reason.INVALID_REQUEST),
    ],
)
async def test_streams_out_of_order_are_refused_after_what_came_before(client, corpus, parts, reason):
    good = [{"begin": {"document": "good"}}, {"chunk": b"text"}, END]
    with pytest.raises(InvalidArgument) as refused:
        await _to_the_end(client.datastore.add_documents(sent(corpus, *good, *parts)))
    assert refused.value.reason == reason
    stat = await client.datastore.get_corpus(name=corpus.name)
    assert stat.document_count <= 1


async def test_what_begin_announced_must_come(client, corpus):
    wrong = [{"size_bytes": 3}, {"sha256": "0" * 64}]
    for announced in wrong:
        parts = [{"begin": {"document": "a", **announced}}, {"chunk": b"text"}, END]
        answers = [a async for a in client.datastore.add_documents(sent(corpus, *parts))]
        assert refusal(answers[0]).reason == Reason.DOCUMENT_SIZE
    limit = DatastoreSettings().document_bytes
    parts = [{"begin": {"document": "a", "size_bytes": limit + 1}}, {"chunk": b"text"}, END]
    (answer,) = [a async for a in client.datastore.add_documents(sent(corpus, *parts))]
    assert isinstance(refusal(answer), ResourceExhausted)


async def test_what_is_not_there_is_not_found(client, corpus):
    nowhere = "corpora/nowhere"
    calls = [
        client.datastore.get_corpus(name=nowhere),
        client.datastore.search(corpora=[nowhere], query="x"),
        client.datastore.stat_document(corpus=corpus.name, document="x"),
        client.datastore.stat_document(corpus=nowhere, document="x"),
        client.datastore.delete_documents(corpus=nowhere, documents=["x"]),
        client.datastore.build_index(corpus=nowhere),
        client.datastore.purge(corpus=nowhere),
        client.datastore.create_corpus(corpus_id="x", model="no-model"),
        add(client, pb.Corpus(name=nowhere), FACTS),
        anext(Watching(client, pb.Corpus(name=nowhere)).stream),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            await call


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("create_corpus", {"corpus_id": "Bad Id", "model": "tiny"}),
        ("create_corpus", {"corpus_id": "", "model": "tiny"}),
        ("create_corpus", {"corpus_id": "x", "model": "tiny", "passage_tokens": -1}),
        ("create_corpus", {"corpus_id": "x", "model": "tiny", "left_context": 999}),
        ("create_corpus", {"corpus_id": "x", "model": "tiny", "encoder": "word2vec"}),
        ("get_corpus", {"name": "corpora/../x"}),
        ("search", {"corpora": [], "query": "x"}),
        ("search", {"corpora": ["corpora/x"], "query": ""}),
        ("search", {"corpora": ["corpora/x"], "query": "x", "limit": -1}),
        ("search", {"corpora": ["corpora/x"], "query": "x", "mode": 9}),
        ("delete_documents", {"corpus": "corpora/x", "documents": []}),
        (
            "verify_spans",
            {"spans": [{"corpus": "corpora/x", "document": "a", "version": 0, "sha256": "0" * 64}]},
        ),
    ],
)
async def test_invalid_fields_are_named(client, method, fields):
    with pytest.raises(InvalidArgument) as refused:
        await getattr(client.datastore, method)(**fields)
    assert refused.value.violations


async def test_ranges_outside_a_document(client, corpus):
    await add(client, corpus, {"a": "ten bytes!"})
    for start, end in ((11, 0), (0, 11), (5, 3)):
        stream = client.datastore.get_document(
            corpus=corpus.name, document="a", byte_start=start, byte_end=end
        )
        with pytest.raises(OutOfRange):
            await anext(stream)


async def test_an_epoch_that_has_not_come(client, corpus):
    with pytest.raises(Aborted) as early:
        await client.datastore.search(corpora=[corpus.name], query="x", min_epochs={corpus.name: 99})
    assert early.value.reason == Reason.CORPUS_EPOCH
    assert early.value.retry_after


async def test_an_empty_corpus_gives_nothing_and_one_without_vectors_says_so(client, corpus, run):
    assert await found(client, corpus, "anything") == []
    assert len((await block_of(client, corpus, "anything")).passages) == 0
    await add(client, corpus, FACTS, defer_vectors=True)
    assert (await found(client, corpus, "moth"))[0] == "grace"
    with pytest.raises(FailedPrecondition) as unbuilt:
        await found(client, corpus, "moth", mode="dense")
    assert unbuilt.value.reason == Reason.CORPUS_NOT_BUILT
    run("build_index", corpus)
    assert (await found(client, corpus, "moth in a relay", mode="dense"))[0] == "grace"


async def test_damage_is_reported_and_the_rest_is_served(client, corpus, run, resources):
    await add(client, corpus, {"ada": FACTS["ada"]})
    run("build_index", corpus)
    await add(client, corpus, {"grace": FACTS["grace"]})
    folder = next((resources.settings.state_dir / "corpora").rglob(corpus.name.partition("/")[2]))
    (path,) = folder.glob("seg-*/docs.bin")
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.unlink()
    path.write_bytes(data)
    run("build_index", corpus)  # a new manifest: the server looks at the files again
    from services.datastore.catalogue import CorpusCatalogue

    opened = CorpusCatalogue(resources.settings.state_dir / "corpora").open("local", folder.name)
    assert opened.corpus.view().quarantined
    with pytest.raises(DataLoss):
        opened.corpus.find("ada")
    assert (await found(client, corpus, "moth"))[0] == "grace"


async def test_corpora_of_another_tenant_are_not_there(client, corpus, resources):
    from services.datastore.catalogue import CorpusCatalogue

    catalogue = CorpusCatalogue(resources.settings.state_dir / "corpora")
    with pytest.raises(NotFound):
        catalogue.open("somebody-else", corpus.name.partition("/")[2])
    assert catalogue.ids("somebody-else") == []
    assert catalogue.ids("../local") == []
