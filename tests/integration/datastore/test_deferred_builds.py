"""Builds that the server starts by itself, and callers who keep them for themselves."""

from collections.abc import Callable
from typing import Any

import pytest

from palimpsest import AsyncClient
from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.client.aio.jobs import metadata_of
from palimpsest.client.corpora import NewDocument
from palimpsest.rpc.server import Server
from services.datastore import DatastoreRoom


@pytest.fixture
def eager(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every document is enough for a build."""
    room = next(room for room in server.rooms if isinstance(room, DatastoreRoom))
    settings = room._servicer._settings.model_copy(update={"seal_tokens": 1})
    monkeypatch.setattr(room._servicer, "_settings", settings)


async def _builds(client: AsyncClient) -> int:
    page = await client.jobs.list(filter="kind=datastore.build_index", page_size=1000)
    return sum(metadata_of(operation).kind == "datastore.build_index" for operation in page.operations)


@pytest.mark.parametrize(("defer", "started"), [(True, 0), (False, 1)])
async def test_a_caller_may_keep_builds_for_themselves(
    client: AsyncClient, corpus: pb.Corpus, run: Callable[..., Any], eager: None, defer: bool, started: int
):
    before = await _builds(client)
    documents = [NewDocument("ink", "Ink is made of oak galls. " * 9)]
    async for answer in client.datastore.add(corpus.name, documents, defer_build=defer):
        assert answer.changed
    assert await _builds(client) - before == started
    assert (await client.datastore.get_corpus(name=corpus.name)).unsealed_tokens > 0
