"""Doors that lock: TLS and mutual TLS over real sockets, certificates made for the test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from palimpsest import errors
from palimpsest.rpc.channel import Tls, open_aio_channel
from palimpsest.rpc.tls import require_safe_listener, server_credentials
from palimpsest.settings import Settings


def write(
    issuer: trustme.CA, folder: Path, name: str, not_after: datetime | None = None
) -> tuple[Path, Path]:
    leaf = issuer.issue_cert("localhost", common_name=name, not_after=not_after)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return certificate, key


@asynccontextmanager
async def serving(**files: Path) -> AsyncIterator[str]:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    credentials = server_credentials(Settings(**files))
    assert credentials is not None
    port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    try:
        yield f"localhost:{port}"
    finally:
        await server.stop(0)


async def check(target: str, tls: Tls | None) -> int:
    async with open_aio_channel(target, tls=tls) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        return answer.status


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    ca = trustme.CA()
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, path


async def test_tls_is_spoken_and_plain_text_is_not(tmp_path, authority):
    ca, ca_path = authority
    certificate, key = write(ca, tmp_path, "server")
    async with serving(tls_certificate=certificate, tls_key=key) as target:
        assert await check(target, Tls(ca_path)) == health_pb2.HealthCheckResponse.SERVING
        for wrong in (None, Tls()):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await check(target, wrong)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_asks_for_a_certificate_of_the_authority(tmp_path, authority):
    ca, ca_path = authority
    certificate, key = write(ca, tmp_path, "server")
    mine = write(ca, tmp_path, "client")
    foreign = write(trustme.CA(), tmp_path, "stranger")
    async with serving(tls_certificate=certificate, tls_key=key, tls_client_ca=ca_path) as target:
        assert await check(target, Tls(ca_path, *mine)) == health_pb2.HealthCheckResponse.SERVING
        for tls in (Tls(ca_path), Tls(ca_path, *foreign)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await check(target, tls)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_rotated_certificate_is_served_without_a_restart(tmp_path, authority):
    ca, ca_path = authority
    certificate, key = write(ca, tmp_path, "server")
    async with serving(tls_certificate=certificate, tls_key=key) as target:
        await check(target, Tls(ca_path))
        next_ca = trustme.CA()
        next_path = tmp_path / "next-ca.pem"
        next_ca.cert_pem.write_to_path(str(next_path))
        write(next_ca, tmp_path, "server")
        assert await check(target, Tls(next_path)) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError):
            await check(target, Tls(ca_path))
        # A rotation gone wrong leaves the last good certificate in use.
        certificate.write_text("")
        assert await check(target, Tls(next_path)) == health_pb2.HealthCheckResponse.SERVING


async def test_an_expired_server_is_refused_until_its_certificate_is_renewed(tmp_path, authority):
    ca, ca_path = authority
    yesterday = datetime.now(UTC) - timedelta(days=1)
    certificate, key = write(ca, tmp_path, "server", not_after=yesterday)
    async with serving(tls_certificate=certificate, tls_key=key) as target:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(target, Tls(ca_path))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "CERTIFICATE_VERIFY_FAILED: certificate has expired" in (caught.value.details() or "")
        write(ca, tmp_path, "server")
        assert await check(target, Tls(ca_path)) == health_pb2.HealthCheckResponse.SERVING


async def test_an_expired_client_is_refused_and_a_renewed_one_let_in(tmp_path, authority):
    ca, ca_path = authority
    certificate, key = write(ca, tmp_path, "server")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    mine = write(ca, tmp_path, "client", not_after=yesterday)
    async with serving(tls_certificate=certificate, tls_key=key, tls_client_ca=ca_path) as target:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(target, Tls(ca_path, *mine))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        write(ca, tmp_path, "client")
        assert await check(target, Tls(ca_path, *mine)) == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1"])
def test_plain_text_off_loopback_is_refused(listen):
    with pytest.raises(errors.FailedPrecondition, match="plain text"):
        require_safe_listener(Settings(listen=listen))
    require_safe_listener(Settings(listen=listen, insecure=True))


@pytest.mark.parametrize(
    ("listen", "nearly"),
    [
        ("127.0.0.1:1", "128.0.0.1:1"),
        ("localhost:1", "localhost.example.org:1"),
        ("[::1]:1", "[::2]:1"),
        ("unix:/tmp/x", "unix.example.org:1"),
    ],
)
def test_loopback_and_sockets_may_be_plain(listen, nearly):
    require_safe_listener(Settings(listen=listen))
    with pytest.raises(errors.FailedPrecondition, match="plain text"):
        require_safe_listener(Settings(listen=nearly))


def test_half_a_pair_is_refused(tmp_path):
    with pytest.raises(errors.FailedPrecondition, match="both"):
        server_credentials(Settings(tls_certificate=tmp_path / "x"))
    with pytest.raises(errors.FailedPrecondition, match="cannot be read"):
        server_credentials(Settings(tls_certificate=tmp_path / "x", tls_key=tmp_path / "y"))


@asynccontextmanager
async def slow(target: str, seconds: float) -> AsyncIterator[tuple[str, list[float]]]:
    """A relay to target that is so slow to begin with each connection, and the times of its connections."""
    loop, connections = asyncio.get_running_loop(), []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(loop.time())
        await asyncio.sleep(seconds)  # what a busy machine or a far server costs, not a wait for something
        host, port = target.split(":")
        inward, outward = await asyncio.open_connection(host, port)
        await asyncio.gather(copy(reader, outward), copy(inward, writer), return_exceptions=True)

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        yield f"localhost:{server.sockets[0].getsockname()[1]}", connections


async def test_a_slow_handshake_is_waited_for_and_not_begun_again(tmp_path, authority):
    ca, ca_path = authority
    certificate, key = write(ca, tmp_path, "server")
    async with (
        serving(tls_certificate=certificate, tls_key=key) as target,
        slow(target, 1.5) as (relayed, connections),
    ):
        assert await check(relayed, Tls(ca_path)) == health_pb2.HealthCheckResponse.SERVING
        assert len(connections) == 1
