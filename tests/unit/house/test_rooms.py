"""Every room has the same doors, and everything that has to know the rooms knows all of them.

The list of rooms is the folders of ``services/``; nothing else is kept by hand. A test that fails here says which file
wants an entry, and CONTRIBUTING.md ("A room") has them in order.
"""

import re

import pytest
import yaml

from palimpsest.client import Client
from palimpsest.client.aio.client import AsyncClient
from palimpsest.rpc.channel import parse_targets
from services.__main__ import FRONTS, load, room_names
from tests.unit.house.imports import ROOT

ROOMS = room_names()


def services_of(room: str) -> set[str]:
    """Proto areas whose services a room mounts, read from the bases of its servicers."""
    source = "\n".join(path.read_text() for path in (ROOT / "services" / room).rglob("*service.py"))
    return set(re.findall(r"(\w+)_pb2_grpc\.\w+Servicer\)", source))


def test_the_rooms_are_the_folders():
    assert sorted(p.parent.name for p in (ROOT / "services").glob("*/__init__.py")) == sorted(
        [*ROOMS, *FRONTS]
    )
    assert len(ROOMS) >= 4


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_its_doors(room):
    folder = ROOT / "services" / room
    # a large room has a service for each noun
    for door in ("README.md", "__main__.py", "*service.py", "tasks.py"):
        assert list(folder.glob(door)), f"services/{room} lacks {door}"
    source = (folder / "__main__.py").read_text().replace("from services.__main__ import main", "")
    assert "import" not in source, "a room starts through services.__main__ and nothing else"
    assert load(room).name == room, f"services/{room}/__init__.py exports ROOM, whose name is {room!r}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_a_contract_and_both_clients_have_its_areas(room):
    areas = services_of(room)
    assert areas, f"no servicer in services/{room}/*service.py"
    for area in areas:
        assert (ROOT / "protos" / "palimpsest" / "api" / area / "v1" / f"{area}.proto").is_file()
        for client in (Client, AsyncClient):
            assert re.search(rf"\b{area}\b", client.__doc__ or ""), (
                f"{client.__name__}'s docstring lacks {area}"
            )
    with Client("127.0.0.1:1") as client:
        for area in areas:
            assert hasattr(client, area), f"client/aio/client.py gives the client no {area}"


@pytest.mark.parametrize("room", ROOMS)
def test_readme_has_a_row_for_the_room(room):
    assert f"| {room} |" in (ROOT / "README.md").read_text(), f"the table of rooms in README.md lacks {room}"
    assert f"services/{room}/README.md" in (ROOT / "README.md").read_text()


def published(room: str) -> int:
    (port,) = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"][room]["ports"]
    match = re.fullmatch(r"127\.0\.0\.1:\$\{PALIMPSEST_(\w+)_PORT:-(\d+)\}:7600", port)
    assert match, port
    assert match[1] == room.upper()
    return int(match[2])


def test_compose_serves_every_room_at_a_port_of_its_own():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for room in ROOMS:
        assert room in services, f"compose.yaml has no service {room}"
        assert services[room]["command"] == ["python3", "-m", "services", room]
        published(room)
    assert len({published(room) for room in ROOMS}) == len(ROOMS)


@pytest.mark.parametrize("file", ["README.md", "compose.yaml"])
def test_the_target_that_people_copy_names_every_room(file):
    found = re.search(r'"(127\.0\.0\.1:\d+,[^"]*)"', (ROOT / file).read_text())
    assert found, f"no target in {file}"
    targets = parse_targets(found[1])
    expected = {"" if room == "registry" else room: f"127.0.0.1:{published(room)}" for room in ROOMS}
    assert targets == expected, f"the target in {file} and the ports in compose.yaml differ"


def test_the_chart_deploys_every_room():
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "palimpsest" / "values.yaml").read_text())
    assert sorted(values["rooms"]) == ROOMS, "deploy/helm/palimpsest/values.yaml: rooms"


def test_prometheus_asks_every_room():
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (static,) = job["static_configs"]
    expected = sorted(f"{name}:9464" for name in (*ROOMS, *FRONTS))
    assert sorted(static["targets"]) == expected, "deploy/prometheus/prometheus.yml"


@pytest.mark.parametrize("front", FRONTS)
def test_a_front_is_a_process_of_its_own_and_deployed_as_one(front):
    folder = ROOT / "services" / front
    for door in ("README.md", "__main__.py"):
        assert (folder / door).is_file(), f"services/{front} lacks {door}"
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert services[front]["command"] == ["python3", "-m", f"services.{front}"]
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "palimpsest" / "values.yaml").read_text())
    assert values[front]["replicas"] >= 1
    assert f"services/{front}/README.md" in (ROOT / "README.md").read_text()
