"""The datastore and decoding rooms, each on a server of its own, over the ``resources`` of each test module."""

from collections.abc import AsyncIterator

import pytest

from palimpsest import AsyncClient
from palimpsest.jobs import WorkerResources
from palimpsest.rpc.server import Server
from services.datastore import DatastoreRoom
from services.decoding import DecodingRoom
from services.registry import RegistryRoom
from tests.rooms import client_of, serving


@pytest.fixture(scope="module")
async def datastore(resources: WorkerResources) -> AsyncIterator[Server]:
    async with serving(resources.settings, RegistryRoom(), DatastoreRoom()) as server:
        yield server


@pytest.fixture(scope="module")
async def server(resources: WorkerResources, datastore: Server) -> AsyncIterator[Server]:
    """The decoding room, which finds the datastore elsewhere."""
    peers = {"peers": f"datastore=127.0.0.1:{datastore.port}"}
    async with serving(resources.settings.model_copy(update=peers), DecodingRoom()) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with client_of(server) as client:
        yield client


@pytest.fixture
async def library(datastore: Server) -> AsyncIterator[AsyncClient]:
    """The datastore's client."""
    async with client_of(datastore) as client:
        yield client
