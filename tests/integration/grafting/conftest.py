"""A server of the grafting room with a pair of tiny models, and the job's own handler to run here and now."""

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from palimpsest import AsyncClient
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.jobs import WorkerResources
from palimpsest.rpc.server import Server
from palimpsest.settings import Settings
from services.grafting import GraftingRoom
from services.registry import RegistryRoom
from tests.rooms import client_of, room_settings, serving, worker_resources
from tests.tiny import write_tiny_model

Weights = dict[str, torch.Tensor]


def changed(source: Path, folder: Path, change: Callable[[Weights], None]) -> Path:
    """A copy of a model with other weights."""
    copy = Path(shutil.copytree(source, folder))
    weights = load_file(copy / "model.safetensors")
    change(weights)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def tune(weights: Weights) -> None:
    drawn = torch.Generator().manual_seed(7)
    for value in weights.values():
        value += 0.1 * torch.randn(value.shape, generator=drawn)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grafting")


@pytest.fixture(scope="module")
def own_settings(valkey: ValkeyServer, folder: Path) -> Settings:
    return room_settings(valkey, folder / "state")


@pytest.fixture(scope="module")
def resources(own_settings: Settings, folder: Path) -> WorkerResources:
    """What a worker has; "tuned" is "base" with every weight moved a little."""
    base = write_tiny_model(folder / "base")
    tuned = changed(base, folder / "tuned", tune)
    return worker_resources(own_settings, base=base, tuned=tuned)


@pytest.fixture(scope="module")
async def server(own_settings: Settings, resources: WorkerResources) -> AsyncIterator[Server]:
    async with serving(own_settings, RegistryRoom(), GraftingRoom()) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with client_of(server) as client:
        yield client
