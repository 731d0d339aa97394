"""What tests of single rooms start with: settings of their own on the shared Valkey, a worker's resources, servers."""

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from palimpsest import AsyncClient
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.jobs import WorkerResources
from palimpsest.models import register
from palimpsest.progress import NullProgress
from palimpsest.rpc.server import Room, Server
from palimpsest.settings import Settings


def room_settings(valkey: ValkeyServer, folder: Path, **changes: object) -> Settings:
    """Settings that share nothing with other tests but the Valkey; float32 on one thread of the processor."""
    plain = Settings(
        state_dir=folder,
        redis_url=valkey.url,
        redis_prefix=f"test-{uuid.uuid4().hex[:12]}:",
        listen="127.0.0.1:0",
        threads=1,
        drain_seconds=1.0,
        device="cpu",
        dtype="float32",
        engine_cache_bytes=64 << 20,
    )
    return plain.model_copy(update=changes)


def worker_resources(settings: Settings, **models: Path) -> WorkerResources:
    """What a worker has, with models registered by id."""
    resources = WorkerResources(settings, redis.Redis.from_url(settings.redis_url))
    for name, path in models.items():
        register(name, str(path), resources.models, settings, NullProgress())
    return resources


@asynccontextmanager
async def serving(settings: Settings, *rooms: Room, **environment: str) -> AsyncIterator[Server]:
    """A server of these rooms in this process, started with these environment variables."""
    server = Server(settings, list(rooms))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        await server.start()
    try:
        yield server
    finally:
        await server.stop()


@contextmanager
def serving_aside(settings: Settings, *rooms: Room) -> Iterator[Settings]:
    """A server of these rooms on a thread of its own, for blocking tests; gives the settings of those who call it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server", daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    async def start() -> Server:
        server = Server(settings, list(rooms))
        await server.start()
        return server

    server = run(start())
    try:
        yield settings.model_copy(update={"listen": f"127.0.0.1:{server.port}"})
    finally:
        run(server.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


def client_of(server: Server) -> AsyncClient:
    """A client without a token."""
    return AsyncClient(f"127.0.0.1:{server.port}")
