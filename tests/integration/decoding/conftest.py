"""The datastore and decoding rooms, each on a server of its own, over the ``resources`` of each test module."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from palimpsest import AsyncClient
from palimpsest.jobs import WorkerResources
from palimpsest.models import register
from palimpsest.progress import NullProgress
from palimpsest.rpc.server import Server
from palimpsest.settings import Settings
from services.datastore import DatastoreRoom
from services.decoding import DecodingRoom
from services.registry import RegistryRoom
from tests.integration.decoding.batches import QUICK, resources_of
from tests.rooms import client_of, serving, serving_aside


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


@pytest.fixture
def own(settings: Settings, tiny_model: Path) -> WorkerResources:
    """Of a worker that runs batches in its own engine."""
    own = resources_of(settings.model_copy(update={**QUICK, "batch_engine": "worker"}))
    register("tiny", str(tiny_model), own.models, own.settings, NullProgress())
    return own


@pytest.fixture
def served(own: WorkerResources) -> Iterator[WorkerResources]:
    """Of a worker that has them run in the decoding room."""
    settings = own.settings.model_copy(update={"batch_engine": "decoding"})
    with serving_aside(settings, RegistryRoom(), DecodingRoom()) as calling:
        yield resources_of(calling)
