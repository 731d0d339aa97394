"""The generated client is what the contract and the asyncio sources give."""

import importlib.util
import inspect
import typing
from pathlib import Path

import pytest

from palimpsest.client import AsyncClient, Client
from palimpsest.client.aio import rooms as aio_rooms
from palimpsest.client.blocking import rooms as blocking_rooms
from palimpsest.client.blocking.rpc import Room

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("deploy_client", ROOT / "deploy" / "client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_has_drifted(generator):
    assert generator.drift() == []


def test_comments_are_found_for_services_methods_and_fields(generator):
    notes = generator.comments(ROOT / "protos/palimpsest/api/decoding/v1/decoding.proto")
    assert notes["DecodingService.Score"].startswith("Returns the log-probability of every token")
    assert notes["GenerateRequest.prompt"].startswith("Raw text")
    assert notes["GenerateRequest.n"].startswith("Number of independent sequences")
    assert "GetEngineInfoResponse.LoadedModel.forward" in notes


def areas():
    protos = ROOT.glob("protos/palimpsest/api/*/v1/*.proto")
    return sorted(p.parent.parent.name for p in protos if "\nservice " in p.read_text())


@pytest.mark.parametrize("area", areas())
def test_both_clients_have_every_room(area):
    with Client("127.0.0.1:1") as client:
        assert isinstance(getattr(client, area), getattr(blocking_rooms, f"{area.capitalize()}Room"))


async def test_the_asyncio_client_has_every_room():
    async with AsyncClient("127.0.0.1:1") as client:
        for area in areas():
            assert isinstance(getattr(client, area), getattr(aio_rooms, f"Async{area.capitalize()}Room"))


def test_methods_are_typed_and_documented():
    for _, room in inspect.getmembers(blocking_rooms, lambda x: inspect.isclass(x) and issubclass(x, Room)):
        for name, method in vars(room).items():
            if name.startswith("_"):
                continue
            assert method.__doc__, name
            hints = typing.get_type_hints(method)
            assert "return" in hints, name
            parameters = list(inspect.signature(method).parameters.values())[1:]
            if parameters[0].name != "requests":
                assert all(p.kind is p.KEYWORD_ONLY for p in parameters), name


async def test_the_twins_have_the_same_surface():
    def surface(client):
        found = {}
        for room in ("artifacts", "codec", "datastore", "decoding", "jobs", "models"):
            for name, method in inspect.getmembers(getattr(client, room), inspect.ismethod):
                if not name.startswith("_"):
                    found[f"{room}.{name}"] = list(inspect.signature(method).parameters)
        return found

    with Client("127.0.0.1:1") as blocking:
        async with AsyncClient("127.0.0.1:1") as twin:
            assert surface(blocking) == surface(twin)
