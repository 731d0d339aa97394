"""``python -m tests.chaos.rpc.silent_server``: takes calls of every kind, reads what comes, and never answers."""

import asyncio
from typing import Any

import grpc

from palimpsest.api.artifacts.v1 import artifacts_pb2, artifacts_pb2_grpc
from palimpsest.api.codec.v1 import codec_pb2, codec_pb2_grpc
from palimpsest.api.decoding.v1 import decoding_pb2, decoding_pb2_grpc
from palimpsest.rpc.auth import Authenticator
from palimpsest.rpc.pipeline import Pipeline
from palimpsest.settings import Settings


async def for_ever() -> None:
    await asyncio.Event().wait()


class Silent(
    decoding_pb2_grpc.DecodingServiceServicer,
    codec_pb2_grpc.CodecServiceServicer,
    artifacts_pb2_grpc.ArtifactServiceServicer,
):
    """One method of each kind."""

    async def Score(self, request: Any, context: Any) -> Any:
        await for_ever()

    async def Generate(self, request: Any, context: Any) -> Any:
        if request.prompt == "talk":
            yield decoding_pb2.GenerateResponse(started=decoding_pb2.GenerateStarted(seed=1))
        await for_ever()
        yield

    async def LoadContext(self, request_iterator: Any, context: Any) -> Any:
        async for request in request_iterator:
            if request.begin.name == "contexts/talk":
                yield codec_pb2.LoadContextResponse()
        await for_ever()

    async def WriteArtifact(self, request_iterator: Any, context: Any) -> Any:
        async for _ in request_iterator:
            pass
        await for_ever()
        return artifacts_pb2.Artifact()


async def main() -> None:
    server = grpc.aio.server(
        interceptors=[Pipeline(Settings(redis_url="unix:///nowhere"), Authenticator(None))]
    )
    silent = Silent()
    decoding_pb2_grpc.add_DecodingServiceServicer_to_server(silent, server)
    codec_pb2_grpc.add_CodecServiceServicer_to_server(silent, server)
    artifacts_pb2_grpc.add_ArtifactServiceServicer_to_server(silent, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
