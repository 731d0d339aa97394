"""Generation that quotes corpora, over real calls: the datastore and decoding rooms."""

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palimpsest import AsyncClient
from palimpsest.api.datastore.v1 import datastore_pb2 as store
from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.client.corpora import NewDocument
from palimpsest.client.quotes import CitedText
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from palimpsest.jobs import WorkerResources
from palimpsest.rpc.server import Server
from services.datastore import DatastoreRoom
from services.decoding import DecodingRoom
from services.registry import RegistryRoom
from tests.rooms import room_settings, worker_resources
from tests.tiny import write_tiny_model
from tests.waiting import until_async

DOCUMENTS = {
    "fox": "the quick brown fox jumps over the lazy dog and the lazy dog jumps over the brown fox. " * 4,
    "fixtures": "Fixtures every kind of test shares: a real Valkey, settings in a scratch folder. " * 4,
    "café": "naïve café — 雪の🦊 jumps over 雪 and the quick émigré; ça va. " * 4,
}
EAGER: dict[str, Any] = {"mu": 1.0, "alpha": 1.0, "tau": 0.1, "neighbors": 32, "passages": 16}
"""Quotes whatever it finds: a random model's own words are worth nothing."""


@pytest.fixture(scope="module")
def resources(
    valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> WorkerResources:
    settings = room_settings(
        valkey, tmp_path_factory.mktemp("quoting"), engine_cache_bytes=32 << 20, engine_max_models=2
    )
    other = write_tiny_model(tmp_path_factory.mktemp("other-llama"), seed=1)
    return worker_resources(settings, tiny=tiny_model, other=other)


@pytest.fixture
async def corpus(library: AsyncClient) -> str:
    name = f"c-{uuid.uuid4().hex[:8]}"
    made = await library.datastore.create_corpus(
        corpus_id=name, model="tiny", encoder="hashed-words", passage_tokens=24, left_context=8
    )
    await add(library, made.name, DOCUMENTS)
    return made.name


async def add(library: AsyncClient, corpus: str, documents: dict[str, str]) -> None:
    new = [NewDocument(name, text, title=name.title()) for name, text in documents.items()]
    async for answer in library.datastore.add(corpus, new):
        assert not answer.HasField("error"), answer


def asked(corpus: str, prompt: str = "the quick brown fox", **nest: Any) -> dict[str, Any]:
    return {
        "model": "tiny",
        "prompt": prompt,
        "max_tokens": 60,
        "ignore_eos": True,
        "nest": {**EAGER, "corpora": [corpus], **nest},
    }


async def generate(client: AsyncClient, **fields: Any) -> tuple[CitedText, list[pb.GenerateResponse]]:
    events, cited = [], CitedText()
    async with client.decoding.generate(**fields) as stream:
        async for event in stream:
            events.append(event)
            cited.take(event)
    return cited, events


async def check(cited: CitedText, library: AsyncClient) -> None:
    """Every quote is what the datastore holds, in both units, and it says so itself."""
    output, spans = cited.text.encode(), []
    for quote in cited.quotes:
        at, quoted = quote.span.range, quote.text.encode()
        assert output[at.byte_start : at.byte_end] == quoted
        assert hashlib.sha256(quoted).hexdigest() == quote.span.sha256
        for source in quote.span.sources:
            where, data = source.range, b""
            asked = {"corpus": source.corpus, "document": source.document, "version": source.version}
            async with library.datastore.get_document(
                **asked, byte_start=where.byte_start, byte_end=where.byte_end
            ) as parts:
                async for part in parts:
                    data += part.data
            assert data == quoted
            assert DOCUMENTS[source.document][where.char_start : where.char_end] == quote.text
            spans.append(
                store.VerifySpansRequest.Span(
                    **asked, byte_start=where.byte_start, byte_end=where.byte_end, sha256=quote.span.sha256
                )
            )
    if spans:
        verified = await library.datastore.verify_spans(spans=spans)
        assert set(verified.verdicts) == {store.VerifySpansResponse.VERDICT_EXACT}


@pytest.mark.parametrize("prompt", ["the quick brown fox", "naïve café", "Fixtures every kind"])
async def test_quotes_are_the_documents_bytes_and_cost_fewer_passes(client, library, corpus, prompt):
    cited, _ = await generate(client, **asked(corpus, prompt))
    assert cited.quotes
    await check(cited, library)
    told = cited.finished.nest
    assert told.dropped_spans == 0
    assert told.lm_forwards < cited.finished.generated_tokens
    assert told.span_token_ratio > 0.3
    assert told.documents >= 1
    assert cited.numbered().count("\n[1]") == 1


async def test_keys_are_computed_once_and_kept(client, library, corpus):
    first, _ = await generate(client, **asked(corpus))
    assert first.finished.nest.keys_computed > 0
    assert first.finished.nest.keys_stored == 0

    async def kept() -> bool:
        return (await library.datastore.get_corpus(name=corpus)).key_blocks > 0

    await until_async(kept)
    again, _ = await generate(client, **asked(corpus))
    assert again.finished.nest.keys_computed == 0
    assert again.finished.nest.keys_stored == first.finished.nest.keys_computed
    assert again.text == first.text


async def test_lossless_is_greedy_to_the_letter_and_attributed(client, library, corpus):
    asking = asked(corpus, mode="LOSSLESS")
    plain = {name: value for name, value in asking.items() if name != "nest"}
    cited, _ = await generate(client, **asking)
    greedy, _ = await generate(client, **plain)
    assert cited.text == greedy.text
    assert cited.finished.nest.keys_computed == 0
    await check(cited, library)
    mode_lm, _ = await generate(client, **asked(corpus, mode="LM"))
    assert mode_lm.text == greedy.text
    assert not mode_lm.finished.HasField("nest")


async def test_several_sequences_quote_each_for_itself(client, library, corpus):
    texts = {0: CitedText(), 1: CitedText()}
    sampling = {"temperature": 0.8, "seed": 7}
    async with client.decoding.generate(**asked(corpus), n=2, sampling=sampling) as stream:
        async for event in stream:
            for index, cited in texts.items():
                kind = event.WhichOneof("event")
                if kind and getattr(getattr(event, kind), "index", index) == index:
                    cited.take(event)
    for cited in texts.values():
        await check(cited, library)


@contextlib.contextmanager
def held_back(server: Server) -> Iterator[asyncio.Event]:
    """Let the tiny model's engine wait after a few steps of a text until the event is set."""
    room = next(room for room in server.rooms if isinstance(room, DecodingRoom))
    engine = next(h.engine for h in room._host.hosted() if h.record.model_id == "tiny")
    loop, gate, forward, steps = asyncio.get_running_loop(), asyncio.Event(), engine.model.forward, 0

    def wait(rows: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal steps
        steps += all(row.count <= 4 for row in rows)  # neither a prompt nor passages whose keys are computed
        if steps > 8:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(30)
        return forward(rows, *arguments, **options)

    engine.model.forward = wait
    try:
        yield gate
    finally:
        gate.set()
        engine.model.forward = forward


async def test_a_deleted_document_is_quoted_no_more_while_the_stream_goes_on(server, client, library, corpus):
    await generate(client, **asked(corpus))  # keys are there, and the engine
    events: list[pb.GenerateResponse] = []
    quoted = asyncio.Event()
    version = (await library.datastore.get_corpus(name=corpus)).tombstone_version

    async def deleted() -> bool:
        return (await library.datastore.get_corpus(name=corpus)).tombstone_version > version

    async def read() -> None:
        async with client.decoding.generate(**{**asked(corpus, max_draft=3), "max_tokens": 150}) as stream:
            async for event in stream:
                events.append(event)
                if event.HasField("span") and event.span.sources[0].document == "fox":
                    quoted.set()

    with held_back(server) as gate:
        reading = asyncio.create_task(read())
        async with asyncio.timeout(60):
            await quoted.wait()
            deleting = asyncio.create_task(
                library.datastore.delete_documents(corpus=corpus, documents=["fox"])
            )
            # The rest of the text takes less time than a call may: it goes on once the deletion is there.
            await until_async(deleted)
            gate.set()
            receipt = await deleting
            before = len(events)
            await reading
    assert receipt.watchers_acknowledged == 1
    assert receipt.watchers_broken == 0
    later = [e.span for e in events[before:] if e.HasField("span")]
    assert not [s for s in later if any(source.document == "fox" for source in s.sources)]
    assert [e for e in events if e.HasField("revoked")]
    assert events[-1].finished.nest.revoked_spans >= 1
    assert events[-1].finished.generated_tokens == 150
    # And nobody who asks again finds it.
    after, _ = await generate(client, **asked(corpus))
    assert "fox" not in {source.document for source in after.sources}


async def test_another_models_corpus_and_one_that_is_not_there_are_refused(client, corpus):
    with pytest.raises(FailedPrecondition):
        await generate(client, **{**asked(corpus), "model": "other"})
    with pytest.raises(NotFound):
        await generate(client, **asked("corpora/nowhere"))
    with pytest.raises(InvalidArgument, match="gamma"):
        await generate(client, **asked(corpus, mode="NEST_STRICT", gamma=0.1))


async def test_an_empty_corpus_leaves_the_model_to_itself(client, library):
    made = await library.datastore.create_corpus(
        corpus_id=f"c-{uuid.uuid4().hex[:8]}", model="tiny", encoder="hashed-words"
    )
    cited, _ = await generate(client, **asked(made.name))
    plain = {name: value for name, value in asked(made.name).items() if name != "nest"}
    greedy, _ = await generate(client, **plain)
    assert cited.text == greedy.text
    assert not cited.quotes


@pytest.mark.parametrize("degrade", [False, True])
async def test_a_lost_datastore_ends_the_text_or_leaves_it_to_the_model(resources, degrade):
    library = Server(resources.settings, [RegistryRoom(), DatastoreRoom()])
    await library.start()
    peers = {"peers": f"datastore=127.0.0.1:{library.port}"}
    decoding = Server(resources.settings.model_copy(update=peers), [DecodingRoom()])
    await decoding.start()
    try:
        async with AsyncClient(f"127.0.0.1:{library.port}") as shelves:
            made = await shelves.datastore.create_corpus(
                corpus_id=f"c-{uuid.uuid4().hex[:8]}", model="tiny", encoder="hashed-words", passage_tokens=24
            )
            await add(shelves, made.name, DOCUMENTS)
        async with AsyncClient(f"127.0.0.1:{decoding.port}") as client:
            loss = "DEGRADE" if degrade else "FAIL"
            fields = {**asked(made.name, on_datastore_loss=loss, max_draft=3), "max_tokens": 150}
            await generate(client, **fields)
            with held_back(decoding) as gate:
                quoted, events = asyncio.Event(), []

                async def read() -> None:
                    async with client.decoding.generate(**fields) as stream:
                        async for event in stream:
                            events.append(event)
                            if event.HasField("span"):
                                quoted.set()

                reading = asyncio.create_task(read())
                await quoted.wait()
                await library.stop(0)
                gate.set()
                if degrade:
                    await reading
                    assert events[-1].finished.nest.degraded
                    assert events[-1].finished.generated_tokens == 150
                else:
                    with pytest.raises(Unavailable):
                        await reading
    finally:
        await decoding.stop()
        with contextlib.suppress(Exception):
            await library.stop()


async def test_a_stored_text_is_likelier_where_it_may_be_quoted(client, corpus):
    text = DOCUMENTS["fox"][:150]
    scored = {}
    for mode in ("LM", "KNN_LM", "NEST"):
        nest = {**EAGER, "corpora": [corpus], "mode": mode}
        scored[mode] = await client.decoding.score(model="tiny", text=text, skip_tokens=8, nest=nest)
    plain = await client.decoding.score(model="tiny", text=text, skip_tokens=8)
    assert scored["LM"].perplexity == plain.perplexity
    assert scored["NEST"].perplexity < scored["KNN_LM"].perplexity < plain.perplexity
    assert [t.id for t in scored["NEST"].tokens] == [t.id for t in plain.tokens]
    with pytest.raises(InvalidArgument, match="Score supports"):
        await client.decoding.score(model="tiny", text=text, nest={"corpora": [corpus], "mode": "LOSSLESS"})
    with pytest.raises(InvalidArgument, match="top"):
        await client.decoding.score(model="tiny", text=text, top=2, nest={"corpora": [corpus]})


async def test_a_prompt_that_breaks_off_in_a_document_quotes_it_though_search_looks_elsewhere(
    client, library, corpus
):
    log = " ".join(f"Line {n} of the log has nothing to say of fixtures or of cafés." for n in range(12))
    await add(library, corpus, {"log": log})
    prompt = log[: log.index("Line 7") + len("Line 7 of the log has nothing")]
    # The query names the fox, and two passages are all that is asked for.
    elsewhere = {"query": "quick brown fox jumps over the lazy dog", "passages": 2}
    found = await library.datastore.search(corpora=[corpus], query=elsewhere["query"], limit=2)
    assert {hit.source.document for hit in found.hits} == {"fox"}
    cited, _ = await generate(client, **asked(corpus, prompt, **elsewhere))
    sources = [source for quote in cited.quotes for source in quote.span.sources]
    assert "log" in {source.document for source in sources}
    other, _ = await generate(client, **asked(corpus, "zebras of glass are nowhere to be seen", **elsewhere))
    assert {source.document for quote in other.quotes for source in quote.span.sources} <= {"fox"}
