"""A codec server that speaks the contract from a script: real sockets, and every frame the test's own."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np

from palimpsest.api.artifacts.v1 import artifacts_pb2
from palimpsest.api.codec.v1 import codec_pb2 as pb
from palimpsest.client.methods import Method
from palimpsest.errors import PalimpsestError
from palimpsest.kv import CalibrationProfile, Identity, KeyValues, encode
from palimpsest.status import DETAILS_KEY, to_status
from tests.unit.kv.conftest import ROTARY, make_cache

Event = pb.LoadContextResponse
CHUNK = 24
LEVELS = ("balanced", "smallest")


class Stored:
    """A context of some chunks, encoded as a real one would be."""

    def __init__(self, chunks: int = 3, profile: CalibrationProfile | None = None, model: str = "tiny"):
        self.kv = make_cache(11, chunks * CHUNK - 5)
        self.ids = np.arange(self.kv.tokens, dtype="<u4") * 7
        self.parts = self.kv.chunks(CHUNK)
        self.context = pb.Context(
            name="contexts/x",
            model_fingerprint="tiny",
            token_count=self.kv.tokens,
            shape=pb.CacheShape(dtype="bfloat16"),
            profile=profile.id if profile else "",
        )
        self.coded: list[dict[str, bytes]] = []
        for part in self.parts:
            prefix = self.digest(part.start + part.tokens)
            self.context.chunks.add(start=part.start, tokens=part.tokens, prefix_digest=prefix)
            self.coded.append(
                encode(
                    part,
                    levels=LEVELS,
                    codec="transform" if profile else "generic",
                    profile=profile,
                    rotary=ROTARY,
                    identity=Identity(model=model, tokenizer="t", prefix=prefix),
                )
            )

    def digest(self, end: int) -> str:
        return "sha256:" + hashlib.sha256(self.ids[:end].tobytes()).hexdigest()

    def opening(self, chunks: int = 0, pieces: int = 2) -> list[Event]:
        events = [Event(opened=Event.Opened(context=self.context, chunks=chunks or len(self.parts)))]
        for ids in np.array_split(self.ids, pieces):
            start = int(ids[0]) // 7
            events.append(Event(tokens=Event.TokenIds(start=start, ids=ids.tobytes())))
        return events

    def sending(self, index: int, level: str = "balanced", damage: int | None = None, frame: int = 700):
        data = bytearray(self.coded[index][level])
        if damage is not None:
            data[damage] ^= 1
        yield Event(
            chunk=Event.ChunkBegin(decision=self.decision(index, level), size_bytes=len(data)),
        )
        for at in range(0, len(data), frame):
            yield Event(data=Event.Data(chunk=index, offset=at, data=bytes(data[at : at + frame])))

    def order(self, index: int) -> Event:
        return Event(recompute=Event.Recompute(decision=self.decision(index, "recompute")))

    @staticmethod
    def decision(index: int, level: str) -> Event.Decision:
        return Event.Decision(chunk=index, level=level, finish_seconds=1.0)

    @staticmethod
    def end() -> Event:
        return Event(ended=Event.Ended(sent_bytes=5, seconds=1.5, loss=0.25, recomputed_chunks=0))


class Gone(Exception):
    """The receiver says no more."""


class Reports:
    """What the receiver says, as it says it."""

    def __init__(self, requests: AsyncIterator[pb.LoadContextRequest]) -> None:
        self._requests = requests
        self.seen: list[pb.LoadContextRequest] = []

    async def next(self) -> pb.LoadContextRequest:
        request = await anext(self._requests, None)
        if request is None:
            raise Gone
        self.seen.append(request)
        return request

    async def until(self, kind: str, chunk: int | None = None) -> Any:
        while True:
            request = await self.next()
            said = getattr(request, kind)
            if request.HasField(kind) and chunk in (None, getattr(said, "chunk", None)):
                return said

    def all(self, kind: str) -> list[Any]:
        return [getattr(request, kind) for request in self.seen if request.HasField(kind)]


Script = Callable[[pb.LoadContextRequest.Begin, Reports], AsyncIterator[Event]]


class Scripted:
    """The server; a test sets ``script``, and finds what was said in ``reports`` and how it ended in ``outcome``."""

    def __init__(self) -> None:
        self.script: Script | None = None
        self.begin = pb.LoadContextRequest.Begin()
        self.reports: Reports | None = None
        self.outcome = ""
        self.over = asyncio.Event()
        self.artifacts: dict[str, bytes] = {}
        self.reads = 0
        self.put: list[pb.PutContextRequest] = []
        self.coded: dict[str, bytes] = {}

    async def start(self) -> str:
        self._server = grpc.aio.server()
        for service, methods in {
            "codec.v1.CodecService": ["LoadContext", "PutContext", "EncodeCache", "DecodeCache"],
            "artifacts.v1.ArtifactService": ["GetArtifact", "ReadArtifact"],
        }.items():
            full = f"palimpsest.api.{service}"
            handlers = {name: self._handler(Method.named(f"{full}.{name}"), name) for name in methods}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(full, handlers),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def stop(self) -> None:
        await self._server.stop(None)

    def _handler(self, method: Method, name: str) -> grpc.RpcMethodHandler:
        kind = "_".join("stream" if s else "unary" for s in (method.sends_stream, method.receives_stream))
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(getattr(self, name), method.request.FromString, method.response.SerializeToString)

    async def LoadContext(self, requests: Any, context: Any) -> AsyncIterator[Event]:
        self.begin = (await anext(aiter(requests))).begin
        self.reports = Reports(aiter(requests))
        self.outcome, self.over = "", asyncio.Event()
        assert self.script is not None
        try:
            async for event in self.script(self.begin, self.reports):
                yield event
            self.outcome = "whole"
        except PalimpsestError as error:
            self.outcome = "refused"
            status = to_status(error)
            context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, error.message)
        except BaseException as error:
            self.outcome = type(error).__name__
            raise
        finally:
            self.over.set()

    async def GetArtifact(self, request: Any, context: Any) -> artifacts_pb2.Artifact:
        return artifacts_pb2.Artifact(digest=request.digest, size_bytes=len(self.artifacts[request.digest]))

    async def ReadArtifact(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.reads += 1
        data = self.artifacts[request.digest][request.offset :]
        for at in range(0, len(data), 1 << 20):
            yield artifacts_pb2.ReadArtifactResponse(
                offset=request.offset + at, data=data[at : at + (1 << 20)]
            )

    async def PutContext(self, requests: Any, context: Any) -> pb.Context:
        self.put = [request async for request in requests]
        return pb.Context(name="contexts/put")

    async def EncodeCache(self, requests: Any, context: Any) -> AsyncIterator[pb.EncodeCacheResponse]:
        self.put = [request async for request in requests]
        for level, data in self.coded.items():
            for at in range(0, len(data), 500):
                yield pb.EncodeCacheResponse(
                    level=level, offset=at, data=data[at : at + 500], size_bytes=len(data)
                )

    async def DecodeCache(self, requests: Any, context: Any) -> AsyncIterator[pb.DecodeCacheResponse]:
        self.put = [request async for request in requests]
        yield pb.DecodeCacheResponse(shape=self.put_shape)
        for frame in self.put_frames:
            yield pb.DecodeCacheResponse(data=frame)

    put_shape = pb.CacheShape()
    put_frames: tuple[bytes, ...] = ()


def same(one: KeyValues, other: KeyValues) -> bool:
    return one.start == other.start and bool(
        (one.keys == other.keys).all() and (one.values == other.values).all()
    )
