#!/usr/bin/env bash
# grpc.min_reconnect_backoff_ms reads like the least pause between two attempts to connect. In gRPC's C core it is
# the time one attempt may take, TLS handshake included. A client that sets it to 100 ms, so as to find a restarted
# server soon, does not reach a server whose handshake takes longer: the attempt is cut off, the call ends long before
# its deadline, and the error, "Handshake read failed (Endpoint closing)", blames the peer. The pause is set by
# grpc.initial_reconnect_backoff_ms and grpc.max_reconnect_backoff_ms.
#
# Exits with 0 if that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check grpcio==1.85.1 trustme==1.2.1
cat > "$folder/look.py" <<'PYTHON'
import asyncio
import contextlib
import sys

import grpc
import trustme

METHOD = "/look.Look/Look"


class Answer(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(answer) if details.method == METHOD else None


async def answer(request, context):
    return b"answered"


async def attempt(port, ca, options):
    """What a call with a deadline of 6 s gets, through a relay that starts to forward after 1 s."""
    connections = 0

    async def copy(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def relay(reader, writer):
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1.0)
            inward, outward = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(copy(reader, outward), copy(inward, writer), return_exceptions=True)

    slow = await asyncio.start_server(relay, "127.0.0.1", 0)
    target = f"127.0.0.1:{slow.sockets[0].getsockname()[1]}"
    named = [("grpc.ssl_target_name_override", "localhost"), *options]
    credentials = grpc.ssl_channel_credentials(ca)
    async with grpc.aio.secure_channel(target, credentials, named) as channel:
        try:
            got = (await channel.unary_unary(METHOD)(b"", timeout=6.0)).decode()
        except grpc.aio.AioRpcError as error:
            got = f"{error.code().name}: {error.details()}"
    slow.close()
    return got, connections


async def main():
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Answer(),))
    pair = (issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    ca = authority.cert_pem.bytes()
    quick = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
    default, once = await attempt(port, ca, quick)
    bounded, often = await attempt(port, ca, [*quick, ("grpc.min_reconnect_backoff_ms", 100)])
    print(f"grpcio {grpc.__version__}, a server whose handshake takes 1 s, deadline 6 s")
    print(f"initial and max backoff of 100 ms:         {default!r}, connections: {once}")
    print(f"and min_reconnect_backoff_ms of 100 too:   {bounded!r}, connections: {often}")
    await server.stop(0)
    return default == "answered" and once == 1 and bounded.startswith("UNAVAILABLE")


sys.exit(0 if asyncio.run(main()) else 1)
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
