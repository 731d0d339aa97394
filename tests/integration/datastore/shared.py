"""What the datastore's tests share: documents and ways to add, find, ship and watch them."""

import asyncio

from palimpsest.api.datastore.v1 import datastore_pb2 as pb
from palimpsest.candidates import Candidates
from palimpsest.client.corpora import NewDocument

FACTS = {
    "ada": "Ada Lovelace wrote the first program, for a machine that was never built.",
    "grace": "Grace Hopper found a moth in a relay and wrote the first compiler.",
    "alan": "Alan Turing asked whether machines can think, and broke a cipher.",
}


async def add(client, corpus, documents: dict[str, str | bytes], **fields) -> list[pb.AddDocumentsResponse]:
    given = [NewDocument(name, text, title=f"About {name}") for name, text in documents.items()]
    async with client.datastore.add(corpus.name, given, **fields) as answers:
        return [answer async for answer in answers]


async def add_all(client, corpus, documents: dict[str, str]) -> None:
    assert not any(answer.HasField("error") for answer in await add(client, corpus, documents))


async def found(client, corpus, query: str, **fields) -> list[str]:
    response = await client.datastore.search(corpora=[corpus.name], query=query, **fields)
    return [hit.source.document for hit in response.hits]


async def block_of(client, corpus, query: str, **fields) -> Candidates:
    fields = {"model_fingerprint": corpus.model_fingerprint, **fields}
    return Candidates.from_bytes(await client.datastore.session(query, [corpus.name], **fields))


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


async def to_the_end(stream) -> None:
    async for _ in stream:
        pass
