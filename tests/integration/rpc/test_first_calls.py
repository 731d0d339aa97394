"""A server's first second: every RPC at once, right after SERVING, several starts."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.api.datastore.v1 import datastore_pb2
from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.embedded.probes import free_address
from palimpsest.rpc.channel import open_aio_channel
from palimpsest.rpc.health import serving
from palimpsest.settings import Settings
from palimpsest.status import from_rpc_error
from services.datastore.corpora import Corpora
from tests.rooms import room_settings, worker_resources
from tests.waiting import until

STARTS = 2
SHARED = ("palimpsest.api.", "google.longrunning.Operations")
BUGS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "numba", "faiss", "celery", "bm25s", "scipy"}
"""Top-level packages of which everything a call needs at once is imported before."""
TEXT = "the quick brown fox"


def shape() -> codec_pb2.CacheShape:
    return codec_pb2.CacheShape(tokens=4, layers=2, kv_heads=1, key_dim=8, value_dim=8, dtype="float32")


def requests() -> dict[str, list[Message]]:
    """What goes beyond an empty message: calls that reach deep into their rooms."""
    d, c, s = decoding_pb2, codec_pb2, datastore_pb2
    data = bytes(4 * 4 * 2 * 16)
    tokens = c.Tokens(ids=[1, 2, 3, 4])
    return {
        "DecodingService/Generate": [d.GenerateRequest(model="tiny", prompt=TEXT, max_tokens=2)],
        "DecodingService/Draft": [d.DraftRequest(model="tiny", prompt=TEXT, max_tokens=2)],
        "DecodingService/Score": [d.ScoreRequest(model="tiny", text=TEXT)],
        "CodecService/LookUpContext": [c.LookUpContextRequest(model="tiny", text=TEXT)],
        "CodecService/CreateContext": [c.CreateContextRequest(model="tiny", text=TEXT)],
        "CodecService/Estimate": [c.EstimateRequest(name="contexts/none")],
        "CodecService/EncodeCache": [
            c.EncodeCacheRequest(spec=c.EncodeCacheRequest.Spec(model="tiny", shape=shape())),
            c.EncodeCacheRequest(data=data),
        ],
        "CodecService/DecodeCache": [c.DecodeCacheRequest(data=b"no chunk")],
        "CodecService/PutContext": [
            c.PutContextRequest(spec=c.PutContextRequest.Spec(model="tiny", shape=shape(), tokens=tokens)),
            c.PutContextRequest(data=data),
        ],
        "CodecService/Calibrate": [c.CalibrateRequest(model="tiny")],
        "DatastoreService/CreateCorpus": [s.CreateCorpusRequest(corpus_id="first", model="tiny")],
        "DatastoreService/Search": [s.SearchRequest(corpora=["corpora/here"], query=TEXT)],
        "DatastoreService/ContinueText": [s.ContinueTextRequest(corpora=["corpora/here"], text=TEXT)],
        "DatastoreService/OpenSession": [s.OpenSessionRequest(corpora=["corpora/here"], query=TEXT)],
        "DatastoreService/AddDocuments": [
            s.AddDocumentsRequest(open=s.AddDocumentsRequest.Open(corpus="corpora/here")),
            s.AddDocumentsRequest(begin=s.AddDocumentsRequest.Begin(document="d")),
            s.AddDocumentsRequest(chunk=TEXT.encode()),
            s.AddDocumentsRequest(end=s.AddDocumentsRequest.End()),
        ],
    }


def methods() -> Iterator[tuple[str, list[bytes]]]:
    """Every RPC of the contract, and what is sent to it."""
    pool, filled = descriptor_pool.Default(), requests()
    for file in sorted((Path(__file__).parents[3] / "protos").rglob("*/api/*/v1/*.proto")):
        found = pool.FindFileByName(str(file.relative_to(file.parents[4])))
        for service in found.services_by_name.values():
            for method in service.methods:
                empty = message_factory.GetMessageClass(method.input_type)()
                messages = filled.get(f"{service.name}/{method.name}", [empty])
                yield f"/{service.full_name}/{method.name}", [each.SerializeToString() for each in messages]
    for verb in ("Get", "List", "Cancel", "Delete", "Wait"):
        yield f"/google.longrunning.Operations/{verb}Operation", [b""]


@contextmanager
def started(settings: Settings, files: Path) -> Iterator[str]:
    """A server process, right after it reports SERVING."""
    address = free_address("127.0.0.1:0", exact=False)
    environment = {
        **os.environ,
        "PALIMPSEST_LISTEN": address,
        "PALIMPSEST_REDIS_URL": settings.redis_url,
        "PALIMPSEST_REDIS_PREFIX": settings.redis_prefix,
        "PALIMPSEST_STATE_DIR": str(settings.state_dir),
        "PALIMPSEST_TEST_FILES": str(files),
        "PALIMPSEST_DRAIN_SECONDS": "1",
    }
    command = [sys.executable, "-m", "tests.integration.rpc.recorded_server"]
    process = subprocess.Popen(command, env=environment)
    try:
        until(lambda: serving(address), 180)
        yield address
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


async def call(
    channel: grpc.aio.Channel, path: str, messages: list[bytes]
) -> tuple[str, grpc.StatusCode, str]:
    """Call as any client may; return how it ended."""
    stream = channel.stream_stream(path)(iter(messages), timeout=60)
    try:
        async for _ in stream:
            pass
    except grpc.aio.AioRpcError as error:
        return path, error.code(), str(from_rpc_error(error))
    return path, grpc.StatusCode.OK, ""


@pytest.mark.timeout(600)
async def test_every_rpc_at_once_right_after_serving(valkey, tmp_path, tiny_model):
    settings = room_settings(valkey, tmp_path)
    resources = worker_resources(settings, tiny=tiny_model)
    Corpora(settings, resources.models).create("local", "here", "tiny")
    ended: Counter[grpc.StatusCode] = Counter()
    for start in range(STARTS):
        files = tmp_path / f"imported-{start}"
        with started(settings, files) as address:
            async with open_aio_channel(address) as channel:
                calls = [call(channel, path, messages) for path, messages in methods() for _ in range(2)]
                outcomes = await asyncio.gather(*calls)
        assert [each for each in outcomes if each[1] in BUGS] == []
        ended.update(code for _, code, _ in outcomes)
        late = files.read_text().split()
        assert [name for name in late if name.startswith(("palimpsest.", "services."))] == []
        assert sorted({name for name in late if name in HEAVY}) == []
    assert ended[grpc.StatusCode.OK] > 20 * STARTS, ended
