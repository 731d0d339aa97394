"""A server that is told to stop while calls keep coming: none of them fails."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from palimpsest import AsyncClient, errors
from palimpsest.embedded.probes import free_address
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.rpc.health import serving
from tests.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]
TRIALS = int(os.environ.get("PALIMPSEST_CHAOS_TRIALS", "1"))
CALLS = 100
PAUSE = 0.05


def start(address: str, valkey: ValkeyServer, prefix: str, state: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PALIMPSEST_LISTEN": address,
        "PALIMPSEST_REDIS_URL": valkey.url,
        "PALIMPSEST_REDIS_PREFIX": prefix,
        "PALIMPSEST_STATE_DIR": str(state),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "services", "registry"], env=environment, stderr=subprocess.DEVNULL
    )


@pytest.mark.parametrize("trial", range(TRIALS))
async def test_no_unary_call_fails(trial, valkey, redis_prefix, tmp_path):
    addresses = [free_address("127.0.0.1:0", exact=False) for _ in range(2)]
    servers = [start(address, valkey, redis_prefix, tmp_path) for address in addresses]
    try:
        for address in addresses:
            until(lambda address=address: serving(address))
        outcomes: list[BaseException | None] = []

        async def call(client: AsyncClient) -> None:
            try:
                await client.models.list_models()
                outcomes.append(None)
            except errors.PalimpsestError as error:
                outcomes.append(error)

        # One name for both, as a cluster's DNS gives it.
        async with AsyncClient(f"ipv4:{addresses[0]},{addresses[1]}") as client, asyncio.TaskGroup() as group:
            for index in range(CALLS):
                group.create_task(call(client))
                if index == CALLS // 3:
                    servers[0].send_signal(signal.SIGTERM)
                await asyncio.sleep(PAUSE)
        assert [error for error in outcomes if error is not None] == []
        assert len(outcomes) == CALLS
        assert await asyncio.to_thread(servers[0].wait, 30) == 0
    finally:
        for server in servers:
            server.kill()
            server.wait()
