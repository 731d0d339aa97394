"""An installation of these tests' own, whose processes they kill, and a request that nobody disturbed."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from palimpsest import Client
from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.client import Job
from palimpsest.embedded.stack import Stack
from palimpsest.errors import PalimpsestError
from palimpsest.settings import Settings
from services.unlearning.workspace import Workspace
from tests.integration.unlearning import data
from tests.waiting import until

STEPS = 120
LONG = 400.0
"""Seconds that a request may take on a machine with a lot to do; nothing is said about how long it takes."""


@dataclass(frozen=True)
class Installation:
    """A stack with a model "base", and data sets that plans name."""

    stack: Stack
    client: Client
    sets: Mapping[str, str]

    def start(
        self, name: str, more: Mapping[str, Any] | None = None, **training: Any
    ) -> Job[pb.RemovalRequest]:
        """Start a request whose id and new model have the same name; ``more`` are fields of its plan."""
        defaults = {"steps": STEPS, "learning_rate": 1e-4, "batch": 4, "checkpoint_steps": 5}
        plan = {"model": "base", "new_model": name, "algorithm": "ga_gdr", **self.sets, **(more or {})}
        plan["training"] = {**defaults, **training}
        return self.client.unlearning.create_removal_request(plan=plan, removal_id=name)

    def space(self, name: str) -> Workspace:
        """The working folder of a request."""
        return Workspace(self.stack.settings, "local", name)

    def made(self, name: str) -> tuple[pb.Result, dict[str, bytes]]:
        """What came of a request but what is its own alone, and the new model's weights."""
        found = self.client.unlearning.get_removal_request(name=f"removalRequests/{name}")
        result = pb.Result()
        result.CopyFrom(found.result)
        result.ClearField("certificate")  # it has the time in it
        result.forget.ClearField("manifest")  # and this a salt
        result.ClearField("other_requests")  # those that were carried out before
        assert result.attacks, found
        files = self.space(name).registered.glob("*.safetensors")
        return result, {file.name: file.read_bytes() for file in files}

    def pid(self, child: str) -> int:
        """Process of a child of the stack, once it has one."""
        return until(lambda: {each.name: each.pid for each in self.stack.status()}[child], LONG)

    def ended(self, job: Job[pb.RemovalRequest]) -> pb.RemovalRequest:
        """Wait for a request's end, though the server may not answer now and then."""

        def done() -> bool:
            try:
                return job.done()
            except PalimpsestError:
                return False

        until(done, LONG)
        return job.result(timeout=LONG)


def sets_of(client: Client) -> dict[str, str]:
    """Upload the data sets of a plan."""
    named = {"forget": data.FORGET, "retain": data.RETAIN, "holdout": data.HOLDOUT}
    return {name: client.artifacts.upload(content).digest for name, content in named.items()}


@pytest.fixture(scope="module")
def attempts() -> int:
    """Attempts that a job of the installation has."""
    return 3


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, attempts: int
) -> Iterator[Installation]:
    settings = Settings(
        state_dir=tmp_path_factory.mktemp("removal"),
        redis_url="",
        listen="127.0.0.1:0",
        threads=1,
        drain_seconds=1.0,
    ).model_copy(update={"lease_seconds": 8.0, "job_max_attempts": attempts})
    with ExitStack() as held:
        stack = Stack(settings).start(timeout=LONG)
        held.callback(stack.stop)
        client = held.enter_context(Client(stack.target))
        client.models.register_model(model_id="base", source=str(tiny_model)).result(timeout=LONG)
        yield Installation(stack, client, sets_of(client))


@pytest.fixture(scope="module")
def undisturbed(installation: Installation) -> tuple[pb.Result, dict[str, bytes]]:
    """What came of a request that nobody disturbed."""
    installation.ended(installation.start("whole"))
    return installation.made("whole")
