"""Every way to be refused over real calls: the table of errors, row by row."""

import pytest

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.client.corpora import refusal
from palimpsest.errors import (
    Aborted,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
)
from palimpsest.settings import DatastoreSettings
from tests.integration.datastore.shared import FACTS, Watching, add, block_of, found, to_the_end


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
        await to_the_end(client.datastore.add_documents(sent(corpus, *good, *parts)))
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
        client.datastore.continue_text(corpora=[nowhere], text="x"),
        client.datastore.continue_text(corpora=[corpus.name, nowhere], text="x"),
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
        ("continue_text", {"corpora": [], "text": "x"}),
        ("continue_text", {"corpora": ["corpora/x"], "tokens": {}}),
        ("continue_text", {"corpora": ["corpora/x"], "tokens": {"ids": []}}),
        ("continue_text", {"corpora": ["corpora/x"], "text": "x" * 100_001}),
        ("continue_text", {"corpora": ["corpora/x"], "text": "x", "longest": 33}),
        ("continue_text", {"corpora": ["corpora/x"], "text": "x", "length": 257}),
        ("continue_text", {"corpora": ["corpora/x"], "text": "x", "limit": -1}),
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


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({}, Reason.PROMPT_EMPTY, "text"),
        ({"text": ""}, Reason.PROMPT_EMPTY, "text"),
        ({"text": "x", "shortest": 9, "longest": 8}, Reason.INVALID_REQUEST, "shortest"),
    ],
)
async def test_nothing_to_continue(client, corpus, fields, reason, field):
    with pytest.raises(InvalidArgument) as refused:
        await client.datastore.continue_text(corpora=[corpus.name], **fields)
    assert (refused.value.reason, refused.value.violations[0].field) == (reason, field)


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
    with pytest.raises(Aborted) as early:
        await client.datastore.continue_text(corpora=[corpus.name], text="x", min_epochs={corpus.name: 99})
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
    from services.datastore.store.catalogue import CorpusCatalogue

    opened = CorpusCatalogue(resources.settings.state_dir / "corpora").open("local", folder.name)
    assert opened.corpus.view().quarantined
    with pytest.raises(DataLoss):
        opened.corpus.find("ada")
    assert (await found(client, corpus, "moth"))[0] == "grace"


async def test_corpora_of_another_tenant_are_not_there(client, corpus, resources):
    from services.datastore.store.catalogue import CorpusCatalogue

    catalogue = CorpusCatalogue(resources.settings.state_dir / "corpora")
    with pytest.raises(NotFound):
        catalogue.open("somebody-else", corpus.name.partition("/")[2])
    assert catalogue.ids("somebody-else") == []
    assert catalogue.ids("../local") == []
