"""What the caller's own code raises while its requests are made reaches the caller, from every kind of stream."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from palimpsest.api.artifacts.v1 import artifacts_pb2
from palimpsest.client.corpora import NewDocument
from palimpsest.errors import NotFound
from tests.integration.client.twins import Twin


class Unreadable(Exception):
    """The caller's own."""


@pytest.fixture
async def corpus(twin: Twin, tiny_model: Path) -> str:
    job = await twin.call(twin.client.models.register_model, model_id="streams-tiny", source=str(tiny_model))
    await twin.call(job.result, timeout=60)
    made = await twin.call(
        twin.client.datastore.create_corpus,
        corpus_id=f"streams-{'blocking' if twin.blocking else 'asyncio'}",
        model="streams-tiny",
        encoder="hashed-words",
    )
    return made.name


@pytest.mark.parametrize("good", [0, 3])
async def test_an_error_between_documents_reaches_the_caller(twin: Twin, corpus: str, good: int, caplog):
    def documents() -> Iterator[NewDocument]:
        for number in range(good):
            yield NewDocument(f"page-{number}", f"A page of its own, with number {number}.")
        raise Unreadable("the next page")

    with pytest.raises(Unreadable, match="the next page"):
        async for _ in twin.each(twin.client.datastore.add(corpus, documents())):
            pass
    assert "Exception iterating requests" not in caplog.text
    assert await twin.call(twin.client.models.list_models), "the connection still serves"


async def test_what_the_server_says_of_a_good_stream_is_still_said(twin: Twin, corpus: str):
    with pytest.raises(NotFound):
        async for _ in twin.each(twin.client.datastore.add(f"{corpus}-missing", [NewDocument("a", "b")])):
            pass


async def test_an_error_in_requests_that_are_answered_once_reaches_the_caller(twin: Twin):
    def parts() -> Iterator[artifacts_pb2.WriteArtifactRequest]:
        raise Unreadable("the file")
        yield artifacts_pb2.WriteArtifactRequest()

    async def awaited() -> AsyncIterator[artifacts_pb2.WriteArtifactRequest]:
        for part in parts():
            yield part

    with pytest.raises(Unreadable, match="the file"):
        await twin.call(twin.client.artifacts.write_artifact, parts() if twin.blocking else awaited())
