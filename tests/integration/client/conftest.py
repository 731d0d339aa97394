"""Both clients on the real stack."""

from collections.abc import AsyncIterator

import pytest

from palimpsest import AsyncClient, Client
from palimpsest.embedded.stack import Stack
from tests.integration.client.twins import Twin

KINDS = {"blocking": Client, "asyncio": AsyncClient}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> type[Client] | type[AsyncClient]:
    return KINDS[request.param]


@pytest.fixture
async def twin(kind: type[Client] | type[AsyncClient], stack: Stack) -> AsyncIterator[Twin]:
    twin = Twin(kind(stack.target))
    yield twin
    await twin.close()
