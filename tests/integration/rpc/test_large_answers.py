"""Every listing with large entries: pages that fit a message, every entry once. Other answers are cut, and say so."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool

from palimpsest import AsyncClient
from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.api.datastore.v1 import datastore_pb2
from palimpsest.api.unlearning.v1 import unlearning_pb2
from palimpsest.client.corpora import NewDocument
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import InvalidArgument, OutOfRange, ResourceExhausted
from palimpsest.jobs import WorkerResources
from palimpsest.paging import ANSWER_BYTES, fitting
from palimpsest.rpc.answers import LARGEST_ANSWER, checked
from services.codec import CodecRoom
from services.codec.contexts import ContextCatalogue
from services.datastore import DatastoreRoom
from services.datastore.ngrams.catalogue import NgramCatalogue
from services.registry import RegistryRoom
from services.unlearning import UnlearningRoom
from services.unlearning.requests.records import RemovalCatalogue, RemovalRecord
from tests.rooms import client_of, room_settings, serving, worker_resources

COUNT = 16
LABELS = {f"label-{at}": "x" * 4096 for at in range(64)}
"""As large as they may be: a quarter of a megabyte."""
CHUNKS = 25_000


@pytest.fixture(scope="module")
def resources(
    valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> WorkerResources:
    return worker_resources(room_settings(valkey, tmp_path_factory.mktemp("large")), tiny=tiny_model)


def chunked(name: str, ids: bytes, chunk: int, artifact: str) -> codec_pb2.Context:
    made = codec_pb2.Context(
        name=f"contexts/{name}",
        model="tiny",
        model_fingerprint="none",
        token_count=len(ids) // 4,
        chunk_tokens=chunk,
        tokens_artifact=artifact,
    )
    levels = ("near-lossless", "high", "balanced", "compact", "smallest")
    running = hashlib.sha256()
    for start in range(0, made.token_count, chunk):
        running.update(ids[4 * start : 4 * (start + chunk)])
        digest = "sha256:" + running.copy().hexdigest()
        encodings = [codec_pb2.Encoding(level=level, artifact=artifact, size_bytes=1000) for level in levels]
        made.chunks.add(start=start, tokens=chunk, prefix_digest=digest, encodings=encodings)
    for level in levels:
        made.levels.add(level=level, size_bytes=1000 * len(made.chunks), loss=0.01)
    return made


def removal(name: str) -> RemovalRecord:
    message = unlearning_pb2.RemovalRequest(
        name=f"removalRequests/{name}", state=unlearning_pb2.REMOVAL_STATE_ROLLED_BACK
    )
    message.plan.contexts.extend(f"contexts/{at:062}" for at in range(4000))
    return RemovalRecord(message, "", "", "")


@pytest.fixture(scope="module")
async def client(resources: WorkerResources) -> AsyncIterator[AsyncClient]:
    """A server with large entries in every list."""
    settings = resources.settings
    prefix, store = settings.redis_prefix, resources.artifacts
    contexts = ContextCatalogue(resources.redis, prefix, store)
    ngrams = NgramCatalogue(resources.redis, prefix, store)
    removals = RemovalCatalogue(resources.redis, prefix)
    ids = bytes(4 * CHUNKS)
    artifact = store.put_bytes(ids, "application/octet-stream").digest
    record = resources.models.get("tiny")
    contexts.put("local", chunked("long", ids, 1, artifact), "long")
    async with (
        serving(settings, RegistryRoom(), CodecRoom(), DatastoreRoom(), UnlearningRoom()) as server,
        client_of(server) as client,
    ):
        for at in range(COUNT):
            context = codec_pb2.Context(
                name=f"contexts/c{at:02}", model="tiny", tokens_artifact=artifact, labels=LABELS
            )
            contexts.put("local", context, f"{at}")
            resources.models.put(replace(record, model_id=f"m{at:02}", parent="tiny", labels=LABELS))
            made = datastore_pb2.NgramStore(name=f"ngramStores/n{at:02}", artifact=artifact, labels=LABELS)
            ngrams.put("local", made, f"{at}")
            store.put_bytes(f"{at}".encode(), "text/plain")
            removals.put("local", removal(f"r{at:02}"))
            await client.datastore.create_corpus(
                corpus_id=f"d{at:02}", model="tiny", encoder="hashed-words", labels=LABELS
            )
            await client.codec.create_context(model="tiny", text="text " * 50_000, context_id=f"later{at}")
        documents = [NewDocument(f"doc{at}", f"words of {at}", metadata=LABELS) for at in range(COUNT)]
        await add(client, "corpora/d00", documents)
        wide = [
            NewDocument(f"w{at}", f"the same words {at}", title="\U0001d11e" * 1024, uri="\U0001d11e" * 2048)
            for at in range(400)
        ]
        await add(client, "corpora/d01", wide)
        yield client


async def add(client: AsyncClient, corpus: str, documents: list[NewDocument]) -> None:
    async with client.datastore.add(corpus, documents) as answers:
        async for answer in answers:
            assert not answer.HasField("error"), answer.error


Call = Callable[[AsyncClient, str], Awaitable[Any]]
LISTINGS: dict[str, tuple[Call, str, int]] = {
    "palimpsest.api.codec.v1.CodecService.ListContexts": (
        lambda c, token: c.codec.list_contexts(page_token=token),
        "contexts",
        COUNT + 1,
    ),
    "palimpsest.api.models.v1.ModelService.ListModels": (
        lambda c, token: c.models.list_models(page_token=token),
        "models",
        COUNT + 1,
    ),
    "palimpsest.api.datastore.v1.DatastoreService.ListCorpora": (
        lambda c, token: c.datastore.list_corpora(page_token=token),
        "corpora",
        COUNT,
    ),
    "palimpsest.api.datastore.v1.DatastoreService.ListDocuments": (
        lambda c, token: c.datastore.list_documents(corpus="corpora/d00", page_token=token),
        "documents",
        COUNT,
    ),
    "palimpsest.api.datastore.v1.DatastoreService.ListNgramStores": (
        lambda c, token: c.datastore.list_ngram_stores(page_token=token),
        "ngram_stores",
        COUNT,
    ),
    "palimpsest.api.artifacts.v1.ArtifactService.ListArtifacts": (
        lambda c, token: c.artifacts.list_artifacts(page_token=token, page_size=10),
        "artifacts",
        COUNT + 1,
    ),
    "palimpsest.api.unlearning.v1.UnlearningService.ListRemovalRequests": (
        lambda c, token: c.unlearning.list_removal_requests(page_token=token),
        "removal_requests",
        COUNT,
    ),
    "google.longrunning.Operations.ListOperations": (
        lambda c, token: c.jobs.list(page_token=token, page_size=10),
        "operations",
        COUNT,
    ),
}


def test_every_listing_is_walked():
    root = Path(__file__).parents[3] / "protos"
    files = [str(file.relative_to(root)) for file in sorted((root / "palimpsest").rglob("*.proto"))]
    assert len(files) > 5
    services = [
        service
        for file in files
        for service in descriptor_pool.Default().FindFileByName(file).services_by_name.values()
    ]
    paged = {
        method.full_name
        for service in services
        for method in service.methods
        if "next_page_token" in method.output_type.fields_by_name
    }
    assert paged | {"google.longrunning.Operations.ListOperations"} == set(LISTINGS)


@pytest.mark.parametrize("listing", LISTINGS)
async def test_pages_of_large_entries_fit_a_message(client, listing):
    call, field, least = LISTINGS[listing]
    names, token, pages = [], "", 0
    while True:
        page = await call(client, token)
        pages += 1
        assert 0 < page.ByteSize() <= LARGEST_ANSWER
        names += [entry.SerializeToString(deterministic=True) for entry in getattr(page, field)]
        token = page.next_page_token
        if not token:
            break
    assert len(names) == len(set(names)) >= least
    assert pages > 1


async def test_a_context_of_many_chunks_comes_in_parts(client):
    part = await client.codec.get_context(name="contexts/long")
    assert 0 < len(part.chunks) < part.chunk_count == CHUNKS
    whole = await client.codec.context("contexts/long")
    assert [chunk.start for chunk in whole.chunks] == list(range(CHUNKS))
    assert whole.name == part.name
    last = await client.codec.get_context(name="contexts/long", first_chunk=CHUNKS - 1)
    assert [chunk.start for chunk in last.chunks] == [CHUNKS - 1]
    with pytest.raises(OutOfRange):
        await client.codec.get_context(name="contexts/long", first_chunk=CHUNKS)


async def test_a_load_of_many_chunks_opens_in_parts(client):
    async with client.codec.receive("contexts/long", chunks=CHUNKS) as receiving:
        opened = await anext(receiving)
    assert [chunk.start for chunk in opened.context.chunks] == list(range(CHUNKS))
    assert len(opened.token_ids) == CHUNKS


async def test_hits_that_do_not_fit_are_counted(client):
    found = await client.datastore.search(
        corpora=["corpora/d01"], query="the same words", limit=1000, mode="sparse"
    )
    assert found.ByteSize() <= LARGEST_ANSWER
    assert found.omitted > 0
    assert len(found.hits) + found.omitted == 400
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)


async def test_a_model_with_many_children_says_what_it_leaves_out(client):
    lineage = await client.models.get_lineage(model_id="tiny")
    assert lineage.ByteSize() <= LARGEST_ANSWER
    assert len(lineage.children) + lineage.omitted == COUNT
    assert lineage.omitted > 0


async def test_labels_are_bounded(client):
    with pytest.raises(InvalidArgument):
        await client.codec.create_context(model="tiny", text="x", labels={"a": "x" * 4097})
    with pytest.raises(InvalidArgument):
        await client.codec.create_context(model="tiny", text="x", labels={"x" * 4097: "a"})


async def test_ids_whose_receipt_would_not_fit_are_refused_before_anything_is_deleted(client):
    with pytest.raises(InvalidArgument):
        await client.datastore.delete_documents(
            corpus="corpora/d00", documents=[f"{at:0512}" for at in range(7000)]
        )


def test_what_does_not_fit_is_refused_in_words():
    with pytest.raises(ResourceExhausted, match="Ask for less"):
        checked(codec_pb2.EncodeCacheResponse(data=bytes(LARGEST_ANSWER)))


def test_as_many_entries_as_fit_and_one_at_least():
    assert fitting([]) == 0
    assert fitting([ANSWER_BYTES + 1]) == 1
    assert fitting([ANSWER_BYTES + 1, 1]) == 1
    assert fitting([ANSWER_BYTES, 0, 1]) == 2
