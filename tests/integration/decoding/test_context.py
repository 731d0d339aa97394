"""Generation that continues a stored context, over real calls: the codec and decoding rooms on one server."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from palimpsest import AsyncClient
from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.artifacts.layout import blob_name
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import FailedPrecondition, NotFound
from palimpsest.jobs import JobContext, WorkerResources
from palimpsest.jobs.progress import NullProgress
from palimpsest.models import register
from palimpsest.rpc.server import Server
from palimpsest.settings import Settings
from services.codec import CodecRoom
from services.codec.tasks import create_context
from services.decoding import DecodingRoom
from services.registry import RegistryRoom

# Words begin with their space, so that text and prompt are cut into tokens alike apart and together.
TEXT = "the quick brown fox jumps over the lazy dog, and " * 12 + "then"


@pytest.fixture(scope="module")
def resources(
    valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> WorkerResources:
    settings = Settings(
        state_dir=tmp_path_factory.mktemp("contexts"),
        redis_url=valkey.url,
        redis_prefix=f"test-{uuid.uuid4().hex[:12]}:",
        listen="127.0.0.1:0",
        threads=1,
        drain_seconds=1.0,
        device="cpu",
        dtype="float32",
        engine_cache_bytes=8 << 20,
    )
    resources = WorkerResources(settings, redis.Redis.from_url(settings.redis_url))
    register("tiny", str(tiny_model), resources.models, settings, NullProgress())
    return resources


@pytest.fixture(scope="module")
async def client(resources: WorkerResources, unused_port: int) -> AsyncIterator[AsyncClient]:
    settings = resources.settings.model_copy(update={"listen": f"127.0.0.1:{unused_port}"})
    server = Server(settings, [RegistryRoom(), CodecRoom(), DecodingRoom()])
    await server.start()
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        yield client
    await server.stop()


@pytest.fixture(scope="module")
def unused_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def make(resources: WorkerResources, context_id: str, levels: list[str]) -> codec_pb2.Context:
    coding = {"chunk_tokens": 64, "levels": levels}
    request = codec_pb2.CreateContextRequest(model="tiny", text=TEXT, context_id=context_id, coding=coding)
    return create_context(request, JobContext("job", "me", 1, NullProgress(), resources))


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


async def test_a_lossless_context_gives_what_its_text_gives(client, resources):
    make(resources, "lossless", ["lossless"])
    plain, none, _ = await generate(client, prompt=TEXT + " the fox")
    assert none is None
    fetch_all = {
        "levels": ["lossless"],
        "loss_budget": 1.0,
        "bandwidth": 1e9,
        "recompute": [{"tokens": 1000, "seconds": 900}],
    }
    text, context, started = await generate(
        client, prompt=" the fox", context="contexts/lossless", context_load=fetch_all
    )
    assert text == plain
    assert sum(chunk.tokens for chunk in context.chunks) < started.prompt_tokens
    assert context.loss == 0


async def test_a_lossy_context_is_loaded_once_and_held(client, resources):
    made = make(resources, "lossy", ["balanced"])
    settings = {"loss_budget": 1.0, "bandwidth": 1e9, "recompute": [{"tokens": 1000, "seconds": 900}]}
    first, loaded, _ = await generate(client, prompt=" over", context=made.name, context_load=settings)
    again, held, started = await generate(client, prompt=" over", context=made.name, context_load=settings)
    assert first == again
    assert held.received_bytes == 0
    assert {chunk.level for chunk in held.chunks} == {"held"} or started.cached_tokens > 0
    assert len(loaded.chunks) == len(held.chunks)


async def test_rotten_chunks_are_recomputed(client, resources):
    made = make(resources, "rotten", ["smallest"])
    stored = await client.codec.get_context(name=made.name)
    for chunk in stored.chunks:
        path = resources.artifacts._objects.root / blob_name(chunk.encodings[0].artifact)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)
    plain, _, _ = await generate(client, prompt=TEXT + " jumps")
    text, context, _ = await generate(
        client, prompt=" jumps", context=made.name, context_load={"loss_budget": 1.0, "levels": ["smallest"]}
    )
    assert text == plain
    assert context.loss == 0
    assert not {chunk.level for chunk in context.chunks} & {"smallest"}


async def test_contexts_that_cannot_be_continued(client, resources, sample_like):
    with pytest.raises(NotFound):
        await generate(client, prompt="x", context="contexts/none-such")
    made = make(resources, "of-tiny", ["balanced"])
    with pytest.raises(FailedPrecondition):
        async for _ in client.decoding.generate(model="other", prompt="x", context=made.name, max_tokens=1):
            pass


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
