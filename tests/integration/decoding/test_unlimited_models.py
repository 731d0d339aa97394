"""Contexts of a model without a context limit: BLOOM, whose positions are distances (ALiBi)."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BloomConfig, BloomForCausalLM

from palimpsest import AsyncClient
from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.jobs import JobContext, WorkerResources
from palimpsest.progress import NullProgress
from palimpsest.rpc.server import Server
from services.codec import CodecRoom
from services.codec.tasks import calibrate, create_context
from services.decoding import DecodingRoom
from services.registry import RegistryRoom
from tests.rooms import client_of, room_settings, serving, worker_resources

TEXT = "the quick brown fox jumps over the lazy dog, and " * 12 + "then"


@pytest.fixture(scope="module")
def bloom(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("bloom")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        n_layer=2,
        n_head=4,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    assert not hasattr(config, "max_position_embeddings")
    BloomForCausalLM(config).to(torch.float32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def resources(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory, bloom: Path) -> WorkerResources:
    settings = room_settings(valkey, tmp_path_factory.mktemp("unlimited"))
    return worker_resources(settings, bloom=bloom)


@pytest.fixture(scope="module")
async def server(resources: WorkerResources) -> AsyncIterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = "127.0.0.1:{1}".format(*free.getsockname())
    # The decoding room has to find the codec room, so the port is known beforehand.
    settings = resources.settings.model_copy(update={"listen": listen})
    async with serving(settings, RegistryRoom(), CodecRoom(), DecodingRoom()) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with client_of(server) as client:
        yield client


def job(resources: WorkerResources) -> JobContext:
    return JobContext("job", "local", 1, NullProgress(), resources)


def make(resources: WorkerResources, context_id: str, levels: list[str]) -> str:
    coding = {"chunk_tokens": 64, "levels": levels}
    request = codec_pb2.CreateContextRequest(model="bloom", context_id=context_id, coding=coding, text=TEXT)
    return create_context(request, job(resources)).name


async def generate(client: AsyncClient, **fields):
    text, context = "", None
    async for event in client.decoding.generate(model="bloom", max_tokens=12, ignore_eos=True, **fields):
        if event.HasField("context"):
            context = event.context
        elif event.HasField("finished"):
            text = event.finished.text
    return text, context


@pytest.mark.parametrize("fetched", [True, False])
async def test_a_context_gives_what_its_text_gives(client, server, resources, fetched):
    name = make(resources, "lossless", ["lossless"])
    plain, _ = await generate(client, prompt=TEXT + " the fox")
    room = next(room for room in server.rooms if isinstance(room, DecodingRoom))
    engine = next(hosted.engine for hosted in room._host.hosted())
    # Slow as a large model: a million tokens would take it longer than a receiver may say.
    engine.costs.saw_prefill(0, 256, 20_000.0)
    assert engine.prefill_curve()[-1][1] > 86_400
    settings = {"recompute": [{"tokens": 1000, "seconds": 60_000}], "bandwidth": 1e9} if fetched else {}
    text, context = await generate(
        client, prompt=" the fox", context=name, context_load={"loss_budget": 1.0, **settings}
    )
    assert text == plain
    assert {chunk.level for chunk in context.chunks} <= {"recompute", "lossless"}
    assert context.received_bytes > 0 or not fetched


async def test_it_is_calibrated_and_its_contexts_are_coded_by_that(client, resources):
    calibrate(
        codec_pb2.CalibrateRequest(model="bloom", documents=6, document_tokens=256, group=1), job(resources)
    )
    name = make(resources, "coded", ["near-lossless"])
    text, context = await generate(client, prompt=" the fox", context=name)
    assert text
    assert {chunk.level for chunk in context.chunks} <= {"recompute", "near-lossless"}
