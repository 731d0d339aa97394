"""A caller who leaves while something is being sent to them is no bug of the server."""

import asyncio

import grpc
import pytest
from structlog.testing import capture_logs

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.api.decoding.v1 import decoding_pb2_grpc
from palimpsest.errors import NotFound, Reason
from palimpsest.rpc.auth import Authenticator
from palimpsest.rpc.channel import open_aio_channel
from palimpsest.rpc.pipeline import Pipeline
from palimpsest.settings import Settings
from tests.waiting import until_async


class Late(decoding_pb2_grpc.DecodingServiceServicer):
    """Has something to say only once nobody listens."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()

    async def _left(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    async def Generate(self, request, context):
        await self._left()
        yield pb.GenerateResponse()

    async def Score(self, request, context):
        await self._left()
        raise NotFound(Reason.MODEL_NOT_FOUND, "There is none.")


@pytest.mark.parametrize("method", ["Generate", "Score"])
async def test_it_is_logged_as_a_cancelled_call(method):
    server = grpc.aio.server(
        interceptors=[Pipeline(Settings(redis_url="unix:///nowhere"), Authenticator(None))]
    )
    servicer = Late()
    decoding_pb2_grpc.add_DecodingServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with capture_logs() as logs:
        async with open_aio_channel(f"127.0.0.1:{port}") as channel:
            stub = decoding_pb2_grpc.DecodingServiceStub(channel)
            request = (
                pb.GenerateRequest(model="m")
                if method == "Generate"
                else pb.ScoreRequest(model="m", text="x")
            )
            call = getattr(stub, method)(request)
            await servicer.entered.wait()
            call.cancel()

            async def ended():
                return [log for log in logs if log["event"] == "rpc"]

            (ended,) = await until_async(ended)
    await server.stop(0)
    assert not [log for log in logs if log["event"] == "bug"]
    assert ended["code"] in ("CANCELLED", "NOT_FOUND")
