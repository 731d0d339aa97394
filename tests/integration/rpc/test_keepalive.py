"""Calls that hear nothing for many pings, in small: the intervals of both ends scaled down by the same factor."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import pytest

from palimpsest.rpc.channel import channel_options
from palimpsest.rpc.keepalive import client_keepalive, server_keepalive
from tests.waiting import until_async

INTERVAL = 0.1
PINGS = 8
"""Of one silence; gRPC cuts a connection off at the third that comes too early."""
METHOD = "/test.Quiet/Say"
_PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00"
"""Head of an HTTP/2 PING frame that is no answer."""


class Link:
    """A connection's middle, which counts the client's pings."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.pings = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, counted: bool) -> None:
            while data := await source.read(65536):
                self.pings += data.count(_PING) if counted else 0
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, ours, True), copy(theirs, writer, False), return_exceptions=True)


class Quiet(grpc.GenericRpcHandler):
    """Says one thing at once, and another when it is told to."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def say(_request: bytes, _context: object) -> AsyncIterator[bytes]:
            yield b"first"
            await self.told.wait()
            yield b"last"

        return grpc.unary_stream_rpc_method_handler(say)


@asynccontextmanager
async def serving(options: Sequence[tuple[str, object]]) -> AsyncIterator[tuple[str, Link, Quiet]]:
    server, quiet = grpc.aio.server(options=options), Quiet()
    server.add_generic_rpc_handlers((quiet,))
    link = Link(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    listener = await asyncio.start_server(link, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    try:
        yield f"{host}:{port}", link, quiet
    finally:
        listener.close()
        await server.stop(0)


def scaled() -> list[tuple[str, object]]:
    """A client's options, pinging as often as this test likes."""
    fast = dict(client_keepalive(INTERVAL))
    return [(name, fast.get(name, value)) for name, value in channel_options()]


async def test_a_silent_call_lives_through_many_pings():
    async with (
        serving(server_keepalive(INTERVAL)) as (target, link, quiet),
        grpc.aio.insecure_channel(target, options=scaled()) as channel,
    ):
        call = channel.unary_stream(METHOD)(b"")
        assert await call.read() == b"first"
        await until_async(lambda: asyncio.sleep(0, link.pings >= PINGS))
        quiet.told.set()
        assert await call.read() == b"last"
        assert await call.read() is grpc.aio.EOF


async def test_a_blocking_clients_silent_call_does_too():
    async with serving(server_keepalive(INTERVAL)) as (target, link, quiet):
        with grpc.insecure_channel(target, options=scaled()) as channel:
            call = channel.unary_stream(METHOD)(b"")
            assert await asyncio.to_thread(next, call) == b"first"
            await until_async(lambda: asyncio.sleep(0, link.pings >= PINGS))
            quiet.told.set()
            assert await asyncio.to_thread(list, call) == [b"last"]


async def test_a_server_that_is_told_nothing_cuts_such_calls_off():
    """What this is about: without it the tests above would prove nothing."""
    async with serving(()) as (target, _, _), grpc.aio.insecure_channel(target, options=scaled()) as channel:
        call = channel.unary_stream(METHOD)(b"")
        assert await call.read() == b"first"
        with pytest.raises(grpc.aio.AioRpcError, match=r"(?i)too.many.pings"):
            await asyncio.wait_for(call.read(), 60)


def test_one_table_has_the_intervals_of_both_ends():
    client, server = dict(client_keepalive()), dict(server_keepalive())
    assert server["grpc.http2.min_ping_interval_without_data_ms"] < client["grpc.keepalive_time_ms"]
    assert dict(channel_options()).items() >= client.items()
