"""Both clients, against a scripted server."""

from collections.abc import AsyncIterator

import pytest

from palimpsest import AsyncClient, Client
from palimpsest.client import profiles
from palimpsest.lru import LruCache
from tests.integration.client.twins import Twin
from tests.unit.client.scripted import Scripted
from tests.unit.kv.conftest import profile  # noqa: F401

KINDS = {"blocking": Client, "asyncio": AsyncClient}


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    server = Scripted()
    server.target = await server.start()
    yield server
    await server.stop()


@pytest.fixture(params=KINDS)
async def twin(request: pytest.FixtureRequest, server: Scripted) -> AsyncIterator[Twin]:
    twin = Twin(KINDS[request.param](server.target))
    yield twin
    await twin.close()


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(profiles, "folder", lambda: tmp_path / "profiles")
    monkeypatch.setattr(profiles, "_held", LruCache(4))
