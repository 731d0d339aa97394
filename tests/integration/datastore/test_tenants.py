"""What one caller keeps is not there for another, and tokens reach no further than their scopes."""

import json
import socket

import pytest

from palimpsest import AsyncClient
from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.client.corpora import NewDocument
from palimpsest.errors import NotFound, PermissionDenied
from palimpsest.jobs import JobContext
from palimpsest.progress import NullProgress
from palimpsest.rpc.auth import hash_token
from palimpsest.rpc.server import Server
from services.datastore import DatastoreRoom, tasks
from services.registry import RegistryRoom


@pytest.fixture
async def guarded(resources, tmp_path):
    """A server that asks for tokens: two callers, and one who may only read."""
    scopes = {"ann": ["datastore.*"], "../ann": ["datastore.*"], "reader": ["datastore.read"]}
    tokens = [{"name": name, "sha256": hash_token(name), "scopes": each} for name, each in scopes.items()]
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": tokens}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = resources.settings.model_copy(
        update={"listen": f"127.0.0.1:{port}", "tokens_file": tmp_path / "tokens.json"}
    )
    server = Server(settings, [RegistryRoom(), DatastoreRoom()])
    await server.start()
    yield f"127.0.0.1:{server.port}"
    await server.stop()


async def test_tenants_do_not_meet(guarded):
    fields = {"corpus_id": "mine", "model": "tiny", "encoder": "hashed-words"}
    async with AsyncClient(guarded, token="ann") as ann, AsyncClient(guarded, token="../ann") as other:
        await ann.datastore.create_corpus(**fields)
        async with ann.datastore.add("corpora/mine", [NewDocument("a", "a secret of ann's")]) as answers:
            assert [a.version async for a in answers] == [1]
        assert (await other.datastore.list_corpora()).corpora == []
        for call in (
            other.datastore.get_corpus(name="corpora/mine"),
            other.datastore.search(corpora=["corpora/mine"], query="secret"),
            other.datastore.continue_text(corpora=["corpora/mine"], text="a secret of"),
            other.datastore.delete_corpus(name="corpora/mine"),
            other.datastore.read("corpora/mine", "a"),
            other.datastore.purge(corpus="corpora/mine"),
        ):
            with pytest.raises(NotFound):
                await call
        # The same name is free for the other, and stays apart.
        await other.datastore.create_corpus(**{**fields, "passage_tokens": 64})
        assert not (await other.datastore.search(corpora=["corpora/mine"], query="secret")).hits
        asked = {"corpora": ["corpora/mine"], "text": "it was a secret of"}
        assert not (await other.datastore.continue_text(**asked)).continuations
        (found,) = (await ann.datastore.continue_text(**asked)).continuations
        assert found.text == b" ann's"
        await other.datastore.delete_corpus(name="corpora/mine")
        assert (await ann.datastore.search(corpora=["corpora/mine"], query="secret")).hits


async def test_ngram_stores_of_tenants_do_not_meet(guarded, resources):
    def build(tenant: str, text: bytes) -> pb.NgramStore:
        digest = resources.artifacts.put_bytes(text, "text/plain").digest
        request = pb.BuildNgramStoreRequest(store_id="mine", text_artifact=digest, model="tiny")
        return tasks.build_ngram_store(request, JobContext("job", tenant, 1, NullProgress(), resources))

    build("ann", b"a secret of ann's")
    async with AsyncClient(guarded, token="ann") as ann, AsyncClient(guarded, token="../ann") as other:
        assert (await other.datastore.list_ngram_stores()).ngram_stores == []
        for call in (
            other.datastore.get_ngram_store(name="ngramStores/mine"),
            other.datastore.inspect_ngrams(name="ngramStores/mine", text="a"),
            other.datastore.delete_ngram_store(name="ngramStores/mine"),
        ):
            with pytest.raises(NotFound):
                await call
        with pytest.raises(NotFound):
            await other.datastore.build_ngram_store(store_id="x", corpus="corpora/mine")
        # The same name is free for the other, and stays apart.
        build("../ann", b"nothing of the sort")
        await other.datastore.delete_ngram_store(name="ngramStores/mine")
        assert (await ann.datastore.get_ngram_store(name="ngramStores/mine")).token_count > 0


async def test_who_may_read_may_not_write(guarded):
    async with AsyncClient(guarded, token="reader") as reader:
        assert (await reader.datastore.list_corpora()).corpora == []
        for call in (
            reader.datastore.create_corpus(corpus_id="x", model="tiny"),
            reader.datastore.delete_documents(corpus="corpora/x", documents=["a"]),
            reader.datastore.build_index(corpus="corpora/x"),
            reader.datastore.build_ngram_store(store_id="x", corpus="corpora/x"),
            reader.datastore.delete_ngram_store(name="ngramStores/x"),
        ):
            with pytest.raises(PermissionDenied):
                await call
