"""Both clients on the real stack."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from palimpsest import AsyncClient, Client
from palimpsest.client import profiles
from tests.integration.client.twins import Twin
from tests.integration.conftest import Served

KINDS = {"blocking": Client, "asyncio": AsyncClient}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> type[Client] | type[AsyncClient]:
    return KINDS[request.param]


@pytest.fixture
async def twin(kind: type[Client] | type[AsyncClient], stack: Served) -> AsyncIterator[Twin]:
    twin = Twin(kind(stack.target, token=stack.token))
    yield twin
    await twin.close()


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the user's own profiles out of it."""
    monkeypatch.setattr(profiles, "folder", lambda: tmp_path / "profiles")
