"""N-gram stores over real calls: built by their job, listed, looked into, deleted; and every way to be refused."""

import itertools
import json
import os
import uuid
from collections import Counter

import pytest

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Reason,
)
from palimpsest.jobs import JobContext
from palimpsest.models import register
from palimpsest.ngrams import NgramStore, open_store
from palimpsest.progress import NullProgress
from services.datastore import tasks
from services.datastore.tokens import ByteTokenizer
from tests.integration.datastore.shared import FACTS, add, add_all
from tests.tiny import write_tiny_model


@pytest.fixture
def name() -> str:
    return f"s-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return ByteTokenizer(tiny_model)


@pytest.fixture(scope="module")
def other_tokenizer(resources, tmp_path_factory):
    """A model, "other", whose tokenizer is another; and "twin", whose tokenizer is tiny's and weights are not."""
    folder = write_tiny_model(tmp_path_factory.mktemp("other"))
    data = json.loads((folder / "tokenizer.json").read_text())
    data["model"]["merges"].pop()
    folder.joinpath("tokenizer.json").write_text(json.dumps(data))
    twin = write_tiny_model(tmp_path_factory.mktemp("twin"), seed=1)
    for model, path in (("other", folder), ("twin", twin)):
        register(model, str(path), resources.models, resources.settings, NullProgress())


@pytest.fixture(scope="module")
def build(resources):
    """``build(store_id="s", corpus=...)``: the job, as a worker runs it."""

    def work(progress: NullProgress | None = None, **fields) -> pb.NgramStore:
        context = JobContext("job", "local", 1, progress or NullProgress(), resources)
        return tasks.build_ngram_store(pb.BuildNgramStoreRequest(**fields), context)

    return work


@pytest.fixture
def opened(resources, tmp_path):
    return lambda store: open_store(resources.artifacts, store.artifact, tmp_path)


def bigrams(tokenizer, texts) -> Counter:
    found = Counter()
    for text in texts:
        ids = tokenizer.encode(text.encode()).ids.tolist()
        found.update(itertools.pairwise(ids))
    return found


def held(store: NgramStore) -> Counter:
    return Counter(
        {(a, b): n for a in range(store.vocab_size) for b, n in store.continuations([a], store.vocab_size)}
    )


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_corpus_is_counted_without_what_was_deleted(
    client, corpus, run, build, opened, tokenizer, name, sealed
):
    await add_all(
        client, corpus, {**FACTS, "gone": "Something that nobody may say.", "ada": "First version."}
    )
    await add_all(client, corpus, {"ada": FACTS["ada"]})
    if sealed:
        run("build_index", corpus)
        await add_all(client, corpus, {"late": "A late one."})
    await client.datastore.delete_documents(corpus=corpus.name, documents=["gone"])
    store = build(store_id=name, corpus=corpus.name)
    texts = [*FACTS.values(), *(["A late one."] if sealed else [])]
    ids = [tokenizer.encode(text.encode()).ids for text in texts]
    assert (store.name, store.model, store.corpus) == (f"ngramStores/{name}", "tiny", corpus.name)
    assert store.tokenizer_fingerprint == corpus.tokenizer_fingerprint
    assert (store.token_count, store.document_count) == (sum(map(len, ids)), len(texts))
    assert list(store.orders) == [2, 3, 4, 5, 6]
    assert store.bytes_per_token == pytest.approx(store.size_bytes / store.token_count)
    assert held(opened(store)) == bigrams(tokenizer, texts)
    assert await client.datastore.get_ngram_store(name=store.name) == store
    artifact = await client.artifacts.get_artifact(digest=store.artifact)
    assert any(owner.startswith("ngram-store/") for owner in artifact.owners)


async def test_the_same_text_is_counted_once(client, corpus, run, build, name):
    await add_all(client, corpus, FACTS)
    first = build(store_id=name, corpus=corpus.name)
    run("build_index", corpus)  # kept otherwise, and the same text
    assert build(store_id=name, corpus=corpus.name, model="tiny") == first
    job = await client.datastore.build_ngram_store(store_id=name, corpus=corpus.name)
    assert (await job.progress()).kind == "datastore.build_ngram_store"
    copy = build(store_id=f"{name}-copy", corpus=corpus.name)
    assert copy.artifact == first.artifact
    await add_all(client, corpus, {"more": "One more."})
    for fields in ({"corpus": corpus.name}, {"corpus": corpus.name, "labels": {"a": "b"}}):
        with pytest.raises(AlreadyExists) as taken:
            await client.datastore.build_ngram_store(store_id=name, **fields)
        assert taken.value.reason == Reason.NGRAM_STORE_EXISTS
        with pytest.raises(AlreadyExists):
            build(store_id=name, **fields)
    await client.datastore.delete_ngram_store(name=first.name)
    assert build(store_id=name, corpus=corpus.name).artifact != first.artifact
    # The artefact of the copy is still referred to; once that is deleted it may go.
    with pytest.raises(FailedPrecondition):
        await client.artifacts.delete_artifact(digest=copy.artifact)


async def test_a_deleted_store_lets_go_of_its_artefact(client, build, name, resources):
    digest = resources.artifacts.put_bytes(f"A text of {name}.".encode(), "text/plain").digest
    store = build(store_id=name, text_artifact=digest, model="tiny")
    await client.datastore.delete_ngram_store(name=store.name)
    assert resources.artifacts.references.owners(store.artifact) == []
    for call in (
        client.datastore.get_ngram_store(name=store.name),
        client.datastore.delete_ngram_store(name=store.name),
        client.datastore.inspect_ngrams(name=store.name),
    ):
        with pytest.raises(NotFound) as gone:
            await call
        assert gone.value.reason == Reason.NGRAM_STORE_NOT_FOUND


async def test_uploaded_texts_are_counted_whole_and_by_line(client, build, opened, tokenizer, name):
    texts = list(FACTS.values())
    plain = await client.artifacts.upload(" ".join(texts).encode(), media_type="text/plain")
    lines = "\n".join(json.dumps({"text": text, "by": "us"}) for text in texts) + "\n\n"
    jsonl = await client.artifacts.upload(lines.encode(), media_type="application/jsonl")
    whole = build(store_id=name, text_artifact=plain.digest, model="tiny")
    parts = build(store_id=f"{name}-l", text_artifact=jsonl.digest, model="tiny")
    assert (whole.document_count, parts.document_count) == (1, 3)
    assert (whole.text_artifact, whole.corpus, whole.corpus_epoch) == (plain.digest, "", 0)
    assert held(opened(whole)) == bigrams(tokenizer, [" ".join(texts)])
    assert held(opened(parts)) == bigrams(tokenizer, texts)


async def test_a_deletion_while_it_is_counted_is_not_in_it(
    client, corpus, build, opened, tokenizer, resources, name
):
    await add_all(client, corpus, FACTS)
    opened_corpus = tasks._corpora(resources).open("local", corpus.name).corpus

    class Deleting(NullProgress):
        """Deletes a document whenever a store is nearly finished, as long as there are any to delete."""

        def __init__(self, *documents: str) -> None:
            super().__init__()
            self.documents = list(documents)

        def publish(self, digest: str) -> None:
            if self.documents:
                assert opened_corpus.delete([self.documents.pop()])

    store = build(Deleting("grace"), store_id=name, corpus=corpus.name)
    assert held(opened(store)) == bigrams(tokenizer, [FACTS["ada"], FACTS["alan"]])
    await add_all(client, corpus, {f"d{n}": f"document {n}" for n in range(3)})
    with pytest.raises(Aborted) as stale:
        build(Deleting("d0", "d1", "d2"), store_id=f"{name}-x", corpus=corpus.name)
    assert stale.value.reason == Reason.NGRAMS_STALE
    assert not list((resources.settings.state_dir / "ngram-builds").iterdir())


async def test_stores_are_listed_in_pages(client, build, resources):
    digest = resources.artifacts.put_bytes(b"page after page", "text/plain").digest
    made = [f"p{n}-{uuid.uuid4().hex[:6]}" for n in range(5)]
    for each in made:
        build(store_id=each, text_artifact=digest, model="tiny")
    names, token = [], ""
    while True:
        page = await client.datastore.list_ngram_stores(page_size=2, page_token=token)
        names += [store.name.removeprefix("ngramStores/") for store in page.ngram_stores]
        token = page.next_page_token
        if not token:
            break
    assert set(made) <= set(names)
    assert names == sorted(names)
    whole = await client.datastore.list_ngram_stores()
    assert [s.name.removeprefix("ngramStores/") for s in whole.ngram_stores] == names


async def test_people_can_look_into_a_store(client, build, tokenizer, name, resources):
    text = "A day: the fox jumps, and the fox sleeps, and the dog sleeps."
    digest = resources.artifacts.put_bytes(text.encode(), "text/plain").digest
    store = build(store_id=name, text_artifact=digest, model="tiny")
    ids = tokenizer.encode(b" the fox").ids.tolist()
    asked = {"name": store.name, "limit": 3}
    found = await client.datastore.inspect_ngrams(text=" the fox", **asked)
    assert found == await client.datastore.inspect_ngrams(tokens=ids, **asked)
    assert [o.order for o in found.orders] == list(range(1, min(6, len(ids) + 1) + 1))
    whole = next(o for o in found.orders if o.order == 1 + min(5, len(ids)))
    assert " the fox".endswith(whole.context_text.decode())
    assert whole.total == sum(c.count for c in whole.continuations) == 2
    assert (found.token_count, found.orders[0].total) == (len(ids), store.token_count)
    every = tokenizer.encode(text.encode()).ids.tolist()
    top = Counter(every).most_common(1)[0][1]
    assert found.orders[0].continuations[0].count == top
    assert (
        found.orders[0].continuations[0].text == tokenizer.token_bytes[found.orders[0].continuations[0].token]
    )
    assert (await client.datastore.inspect_ngrams(text=text, **asked)).coverage == 1
    assert (await client.datastore.inspect_ngrams(text="QZ XW KV", **asked)).coverage < 0.5
    alone = await client.datastore.inspect_ngrams(name=store.name)
    assert [(o.order, len(o.continuations)) for o in alone.orders] == [(1, 5)]
    with pytest.raises(InvalidArgument) as refused:
        await client.datastore.inspect_ngrams(name=store.name, tokens=[1, 384])
    assert refused.value.reason == Reason.TOKEN_ID_OUT_OF_RANGE


async def test_another_tokenizer_is_refused(client, corpus, build, other_tokenizer, name, resources):
    await add_all(client, corpus, FACTS)
    asked = {"store_id": name, "corpus": corpus.name, "model": "other"}
    with pytest.raises(FailedPrecondition) as refused:
        await client.datastore.build_ngram_store(**asked)
    assert refused.value.reason == Reason.NGRAMS_TOKENIZER_MISMATCH
    with pytest.raises(FailedPrecondition) as refused:
        build(**asked)
    assert refused.value.reason == Reason.NGRAMS_TOKENIZER_MISMATCH
    # Another model with the same tokenizer is as good.
    assert build(store_id=name, corpus=corpus.name, model="twin").model == "twin"


async def test_a_model_that_is_another_by_now_is_refused(client, build, name, resources, tmp_path):
    register(
        "brief",
        str(write_tiny_model(tmp_path / "a", seed=2)),
        resources.models,
        resources.settings,
        NullProgress(),
    )
    digest = resources.artifacts.put_bytes(FACTS["ada"].encode(), "text/plain").digest
    corpus = await client.datastore.create_corpus(corpus_id=name, model="brief", encoder="hashed-words")
    await add_all(client, corpus, FACTS)
    store = build(store_id=name, text_artifact=digest, model="brief")
    resources.models.delete("brief")
    with pytest.raises(NotFound) as gone:
        await client.datastore.inspect_ngrams(name=store.name, text="a text")
    assert gone.value.reason == Reason.MODEL_NOT_FOUND
    shown = await client.datastore.inspect_ngrams(name=store.name, tokens=[40])
    assert shown.orders[1].context_text == b""
    folder = write_tiny_model(tmp_path / "b", seed=3)
    data = json.loads((folder / "tokenizer.json").read_text())
    data["model"]["merges"].pop()
    folder.joinpath("tokenizer.json").write_text(json.dumps(data))
    register("brief", str(folder), resources.models, resources.settings, NullProgress())
    with pytest.raises(FailedPrecondition) as refused:
        await client.datastore.inspect_ngrams(name=store.name, text="a text")
    assert refused.value.reason == Reason.NGRAMS_TOKENIZER_MISMATCH
    with pytest.raises(FailedPrecondition) as refused:
        await client.datastore.build_ngram_store(store_id=f"{name}-c", corpus=corpus.name)
    assert refused.value.reason == Reason.CORPUS_MODEL_MISMATCH


async def test_what_cannot_be_built_is_said_at_once(client, corpus, name, resources):
    empty = resources.artifacts.put_bytes(b"", "text/plain").digest
    build = client.datastore.build_ngram_store
    for fields, kind, reason in (
        ({"corpus": corpus.name}, FailedPrecondition, Reason.NGRAMS_EMPTY),
        ({"text_artifact": empty, "model": "tiny"}, FailedPrecondition, Reason.NGRAMS_EMPTY),
        ({"corpus": "corpora/none"}, NotFound, Reason.CORPUS_NOT_FOUND),
        ({"corpus": corpus.name, "model": "none"}, NotFound, Reason.MODEL_NOT_FOUND),
        ({"text_artifact": empty, "model": "none"}, NotFound, Reason.MODEL_NOT_FOUND),
        ({"text_artifact": "sha256:" + "0" * 64, "model": "tiny"}, NotFound, Reason.ARTIFACT_NOT_FOUND),
        ({"text_artifact": empty}, InvalidArgument, Reason.INVALID_REQUEST),
        ({"model": "tiny"}, InvalidArgument, Reason.INVALID_REQUEST),
        ({"corpus": "../x"}, InvalidArgument, Reason.INVALID_REQUEST),
        ({"text_artifact": "../x", "model": "tiny"}, InvalidArgument, Reason.INVALID_REQUEST),
    ):
        with pytest.raises(kind) as refused:
            await build(store_id=name, **fields)
        assert refused.value.reason == reason, fields
    for bad in ("", "../x", "A", "a/b", "x" * 64):
        with pytest.raises(InvalidArgument):
            await build(store_id=bad, corpus=corpus.name)
        for call in (
            client.datastore.get_ngram_store,
            client.datastore.delete_ngram_store,
            client.datastore.inspect_ngrams,
        ):
            with pytest.raises(InvalidArgument):
                await call(name=f"ngramStores/{bad}")
    with pytest.raises(InvalidArgument):
        await client.datastore.get_ngram_store(name=corpus.name)


@pytest.mark.parametrize(
    ("data", "media_type", "reason"),
    [
        (b"\xff\xfe", "text/plain", Reason.DOCUMENT_ENCODING),
        (b'{"text": "fine"}\nnot json\n', "application/jsonl", Reason.NGRAMS_LINE_INVALID),
        (b'{"text": 3}', "application/jsonl; charset=utf-8", Reason.NGRAMS_LINE_INVALID),
        (b'{"text": ' * 50_000, "application/jsonl", Reason.NGRAMS_LINE_INVALID),
        (
            b'{"text": "a", "b": ' + b"[" * 99 + b"]" * 99 + b"}",
            "application/jsonl",
            Reason.NGRAMS_LINE_INVALID,
        ),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "application/x-ndjson", Reason.NGRAMS_LINE_INVALID),
        (b'{"text": "a", "n": 1e999}', "application/jsonl", Reason.NGRAMS_LINE_INVALID),
        (b'{"text": "\\ud800"}', "application/jsonl", Reason.NGRAMS_LINE_INVALID),
        (b'{"text": "a", "text": "b"}', "application/jsonl", Reason.NGRAMS_LINE_INVALID),
        (b'{"text": ""}\n\n', "application/jsonl", Reason.NGRAMS_EMPTY),
        (b"x" * 5000, "text/plain", Reason.DOCUMENT_TOO_LARGE),
        (json.dumps({"text": "x" * 5000}).encode(), "application/jsonl", Reason.DOCUMENT_TOO_LARGE),
        (json.dumps({"text": "x" * 90_000}).encode(), "application/jsonl", Reason.NGRAMS_LINE_INVALID),
    ],
)
def test_texts_that_are_none_are_refused_by_the_job(
    resources, build, name, monkeypatch, data, media_type, reason
):
    corpora = tasks._corpora(resources)
    monkeypatch.setattr(corpora, "settings", corpora.settings.model_copy(update={"document_bytes": 4000}))
    digest = resources.artifacts.put_bytes(data, media_type).digest
    with pytest.raises((InvalidArgument, FailedPrecondition)) as refused:
        build(store_id=name, text_artifact=digest, model="tiny")
    assert refused.value.reason == reason


async def test_a_damaged_store_is_not_believed(client, build, name, resources):
    digest = resources.artifacts.put_bytes(f"{name} {FACTS['ada']}".encode(), "text/plain").digest
    store = build(store_id=name, text_artifact=digest, model="tiny")
    blob = resources.artifacts.local_file(store.artifact)
    data = bytearray(blob.read_bytes())
    data[-50] ^= 1
    os.unlink(blob)
    blob.write_bytes(data)
    with pytest.raises(DataLoss) as refused:
        await client.datastore.inspect_ngrams(name=store.name, text="a")
    assert refused.value.reason == Reason.ARTIFACT_CORRUPT
    # Built again it is whole again.
    await client.datastore.delete_ngram_store(name=store.name)
    assert build(store_id=name, text_artifact=digest, model="tiny").artifact == store.artifact
    assert (await client.datastore.inspect_ngrams(name=store.name, text="a")).orders


async def test_a_damaged_corpus_is_not_counted_in_part(client, corpus, run, build, name, resources):
    await add(client, corpus, FACTS)
    run("build_index", corpus)
    opened = tasks._corpora(resources).open("local", corpus.name).corpus
    (segment,) = opened.segments
    path = next(p for p in segment.files.folder.iterdir() if p.name.startswith("tokens"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    os.unlink(path)
    path.write_bytes(data)
    tasks._corpora(resources).catalogue.close()  # as another worker would find it
    with pytest.raises(DataLoss) as refused:
        build(store_id=name, corpus=corpus.name)
    assert refused.value.reason == Reason.CORPUS_DAMAGED
