"""Generation that continues a stored context, over real calls: the codec and decoding rooms on one server."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from palimpsest import AsyncClient
from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.artifacts.layout import blob_name
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.engine import Engine
from palimpsest.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unavailable
from palimpsest.jobs import JobContext, WorkerResources
from palimpsest.kv import from_cache
from palimpsest.models import register
from palimpsest.progress import NullProgress
from palimpsest.rpc.auth import hash_token
from palimpsest.rpc.server import Server
from services.codec import CodecRoom
from services.codec.tasks import create_context
from services.decoding import DecodingRoom
from services.registry import RegistryRoom
from tests.rooms import room_settings, serving, worker_resources
from tests.waiting import until, until_async

# Words begin with their space, so that text and prompt are cut into tokens alike apart and together.
TEXT = "the quick brown fox jumps over the lazy dog, and " * 12 + "then"


@pytest.fixture(scope="module")
def resources(
    valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> WorkerResources:
    settings = room_settings(valkey, tmp_path_factory.mktemp("contexts"), engine_cache_bytes=8 << 20)
    return worker_resources(settings, tiny=tiny_model)


@pytest.fixture(scope="module")
async def server(resources: WorkerResources) -> AsyncIterator[Server]:
    settings = resources.settings.model_copy(update={"listen": f"127.0.0.1:{unused_port()}"})
    async with serving(settings, RegistryRoom(), CodecRoom(), DecodingRoom()) as server:
        yield server


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def engine_of(server: Server, client: AsyncClient) -> Engine:
    """The tiny model's engine, with nothing in its prefix index."""
    await generate(client, prompt="x")
    room = next(room for room in server.rooms if isinstance(room, DecodingRoom))
    engine = next(h.engine for h in room._host.hosted() if h.record.model_id == "tiny")
    until(lambda: engine.idle)
    engine.model.pool.forget_prefixes()
    return engine


@contextmanager
def held_up(engine: Engine) -> Iterator[None]:
    """Let the engine stand still within a step."""
    entered, go_on, forward = threading.Event(), threading.Event(), engine.model.forward

    def wait(rows, hidden=()):
        entered.set()
        assert go_on.wait(60)
        return forward(rows, hidden)

    engine.model.forward = wait
    score = engine.submit_score([5, 6, 7])
    assert entered.wait(60)
    try:
        yield
    finally:
        engine.model.forward = forward
        go_on.set()
    score.result(60)


def arriving(engine: Engine) -> bool:
    """Whether a chunk waits for the engine to take it in."""
    return any(h.request.prefix is not None and h.request.prefix._arrived for h in list(engine._inbox))


def at_rest(engine: Engine) -> bool:
    return engine.idle and engine.model.pool.used == 0 and engine.cache_bytes_used == 0


FETCH_ALL = {"loss_budget": 1.0, "bandwidth": 1e9, "recompute": [{"tokens": 1000, "seconds": 60_000}]}
"""Settings under which nothing is worth recomputing."""


def make(
    resources: WorkerResources,
    context_id: str,
    levels: list[str],
    chunk_tokens: int = 64,
    ids: list[int] | None = None,
    principal: str = "local",
) -> codec_pb2.Context:
    coding = {"chunk_tokens": chunk_tokens, "levels": levels}
    content = {"tokens": {"ids": ids}} if ids else {"text": TEXT}
    request = codec_pb2.CreateContextRequest(model="tiny", context_id=context_id, coding=coding, **content)
    return create_context(request, JobContext("job", principal, 1, NullProgress(), resources))


@pytest.fixture(scope="module")
def put(tiny_model: Path):
    """Store a cache computed elsewhere: lossy, where a job would measure that this model loses too much."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    text = AutoTokenizer.from_pretrained(tiny_model)(TEXT).input_ids

    async def store(
        client: AsyncClient,
        context_id: str,
        levels: list[str],
        chunk_tokens: int = 64,
        ids: list[int] | None = None,
    ) -> codec_pb2.Context:
        tokens = ids or text
        with torch.no_grad():
            cache = model(torch.tensor([tokens]), use_cache=True).past_key_values
        return await client.codec.put(
            model="tiny",
            tokens=tokens,
            kv=from_cache(cache),
            context_id=context_id,
            coding={"chunk_tokens": chunk_tokens, "levels": levels},
        )

    return store


async def generate(client: AsyncClient, **fields):
    text, context, started = "", None, None
    async for event in client.decoding.generate(model="tiny", max_tokens=12, ignore_eos=True, **fields):
        if event.HasField("context"):
            context = event.context
        elif event.HasField("started"):
            started = event.started
        elif event.HasField("finished"):
            text = event.finished.text
    return text, context, started


async def test_a_lossless_context_gives_what_its_text_gives(client, server, resources):
    made = make(resources, "lossless", ["lossless"])
    plain, none, _ = await generate(client, prompt=TEXT + " the fox")
    assert none is None
    engine = await engine_of(server, client)
    text, context, started = await generate(
        client, prompt=" the fox", context=made.name, context_load=FETCH_ALL
    )
    assert text == plain
    assert {chunk.level for chunk in context.chunks} == {"lossless"}
    assert sum(chunk.bytes for chunk in context.chunks) == context.received_bytes > 0
    assert sum(chunk.tokens for chunk in context.chunks) == made.token_count < started.prompt_tokens
    assert (started.cached_tokens, context.loss) == (0, 0)
    assert context.seconds > 0
    until(lambda: at_rest(engine))


async def test_by_default_load_and_recomputation_meet(client, server, resources):
    made = make(resources, "default", ["lossless", "balanced"])
    await engine_of(server, client)
    text, context, _ = await generate(client, prompt=" the fox", context=made.name)
    assert text
    assert sum(chunk.tokens for chunk in context.chunks) == made.token_count
    assert {chunk.level for chunk in context.chunks} <= {"recompute", "lossless", "balanced"}


async def test_a_lossy_context_is_loaded_once_held_and_never_mixed_up(client, server, put):
    engine = await engine_of(server, client)
    ids, over = (engine.model.tokenizer(text).input_ids for text in (TEXT, " over"))
    ids = ids[: len(ids) // 16 * 16]  # whole blocks: what is beyond them is recomputed the second time
    await put(client, "lossy", ["smallest"], ids=ids)
    exact, _, _ = await generate(client, tokens=[*ids, *over])
    engine.model.pool.forget_prefixes()
    fields = {"prompt": " over", "context": "contexts/lossy", "context_load": FETCH_ALL}
    first, loaded, _ = await generate(client, **fields)
    assert {chunk.level for chunk in loaded.chunks} == {"smallest"}
    assert loaded.loss > 0
    again, held, started = await generate(client, **fields)
    assert again == first
    assert {chunk.level for chunk in held.chunks} == {"held"}
    assert held.received_bytes == 0
    assert held.loss == pytest.approx(loaded.loss)
    assert started.cached_tokens == len(ids)
    other, others, _ = await generate(client, **{**fields, "context_load": {**FETCH_ALL, "loss_budget": 2.0}})
    assert {chunk.level for chunk in others.chunks} == {"smallest"}, (
        "asked for otherwise, so loaded otherwise"
    )
    assert other == first
    plain, _, started = await generate(client, tokens=[*ids, *over])
    assert plain == exact != first
    assert started.cached_tokens == 0


async def test_what_was_evicted_is_loaded_again(client, server, resources):
    make(resources, "evicted", ["balanced"])
    engine = await engine_of(server, client)
    fields = {"prompt": " over", "context": "contexts/evicted", "context_load": FETCH_ALL}
    first, _, _ = await generate(client, **fields)
    until(lambda: engine.idle)
    engine.model.pool.forget_prefixes()
    again, loaded, _ = await generate(client, **fields)
    assert again == first
    assert {chunk.level for chunk in loaded.chunks} == {"balanced"}


async def test_rotten_chunks_are_recomputed(client, server, resources):
    made = make(resources, "rotten", ["smallest"])
    engine = await engine_of(server, client)
    stored = await client.codec.get_context(name=made.name)
    for chunk in stored.chunks:
        path = resources.artifacts._objects.root / blob_name(chunk.encodings[0].artifact)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)
    plain, _, _ = await generate(client, prompt=TEXT + " jumps")
    engine.model.pool.forget_prefixes()
    text, context, _ = await generate(client, prompt=" jumps", context=made.name, context_load=FETCH_ALL)
    assert text == plain
    assert context.loss == 0
    assert {chunk.level for chunk in context.chunks} == {"recompute"}


async def test_a_client_that_leaves_in_the_middle_of_a_load_frees_its_memory(client, server, resources):
    made = make(resources, "left", ["lossless"], chunk_tokens=16)
    engine = await engine_of(server, client)
    room = next(room for room in server.rooms if isinstance(room, DecodingRoom))
    contexts = room._servicer._planner()._contexts
    with held_up(engine):
        call = asyncio.ensure_future(
            generate(client, prompt=" then", context=made.name, context_load=FETCH_ALL)
        )
        await until_async(lambda: _true(arriving(engine) and contexts._running_loads == 1))
        call.cancel()
        await until_async(lambda: _true(contexts._running_loads == 0))
    await until_async(lambda: _true(at_rest(engine)))


async def _true(value: bool) -> bool:
    return value


async def test_a_load_that_breaks_off_is_finished_by_recomputing(client, resources, put):
    # More chunks than may wait to be taken, so that some cannot have arrived.
    made = await put(client, "broken", ["smallest"], chunk_tokens=16, ids=list(range(3, 323)))
    elsewhere = Server(resources.settings, [CodecRoom()])
    await elsewhere.start()
    peers = {"peers": f"codec=127.0.0.1:{elsewhere.port}"}
    server = Server(resources.settings.model_copy(update=peers), [RegistryRoom(), DecodingRoom()])
    await server.start()
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        engine = await engine_of(server, client)
        with held_up(engine):
            call = asyncio.ensure_future(
                generate(client, prompt=" then", context=made.name, context_load=FETCH_ALL)
            )
            await until_async(lambda: _true(arriving(engine)))
            await elsewhere.stop(0)
        text, context, _ = await call
        assert text
        levels = [chunk.level for chunk in context.chunks]
        assert levels[0] == "recompute", "loads come from the back"
        assert 0 < context.loss < 1
        until(lambda: at_rest(engine))
        with pytest.raises(Unavailable):
            await generate(client, prompt=" then", context="contexts/lossless")
        assert engine.idle
    await server.stop()


async def test_the_callers_token_is_what_the_codec_room_sees(resources, tmp_path):
    made = make(resources, "guarded", ["lossless"], principal="both")
    scopes = {"both": ["decoding.*", "codec.read"], "half": ["decoding.*"]}
    tokens = [{"name": name, "sha256": hash_token(name), "scopes": each} for name, each in scopes.items()]
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": tokens}))
    settings = resources.settings.model_copy(
        update={"listen": f"127.0.0.1:{unused_port()}", "tokens_file": tmp_path / "tokens.json"}
    )
    async with serving(settings, RegistryRoom(), CodecRoom(), DecodingRoom()) as server:
        async with AsyncClient(f"127.0.0.1:{server.port}", token="both") as client:
            text, context, _ = await generate(client, prompt=" then", context=made.name)
            assert text
            assert context.chunks
        async with AsyncClient(f"127.0.0.1:{server.port}", token="half") as client:
            with pytest.raises(PermissionDenied):
                await generate(client, prompt=" then", context=made.name)
            assert (await generate(client, prompt=" then"))[0]


async def test_contexts_that_cannot_be_continued(client, server, resources, sample_like):
    engine = await engine_of(server, client)
    with pytest.raises(NotFound) as missing:
        await generate(client, prompt="x", context="contexts/none-such")
    assert missing.value.reason == "CONTEXT_NOT_FOUND"
    made = make(resources, "of-tiny", ["balanced"])
    with pytest.raises(InvalidArgument) as empty:
        await generate(client, prompt="", context=made.name)
    assert empty.value.reason == "PROMPT_EMPTY"
    with pytest.raises(InvalidArgument) as unknown:
        await generate(client, prompt="x", context=made.name, context_load={"levels": ["finest"]})
    assert unknown.value.reason == "KV_LEVEL_UNKNOWN"
    with pytest.raises(InvalidArgument) as long:
        await generate(client, prompt="x " * 1900, context=made.name)
    assert long.value.reason == "PROMPT_TOO_LONG"
    until(lambda: at_rest(engine))
    with pytest.raises(FailedPrecondition) as other:
        async for _ in client.decoding.generate(model="other", prompt="x", context=made.name, max_tokens=1):
            pass
    assert other.value.reason == "KV_IDENTITY_MISMATCH"


@pytest.fixture(scope="module")
def sample_like(
    resources: WorkerResources, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A model like "tiny" with other weights."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * 1.5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    register("other", str(folder), resources.models, resources.settings, NullProgress())
    return "other"
