"""How fast a cancellation bites: counted in optimiser steps after the worker heard of it, not in seconds."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torch.optim.optimizer import register_optimizer_step_post_hook

from palimpsest.errors import Cancelled
from palimpsest.jobs import JobContext
from palimpsest.jobs.attempt import Attempt
from palimpsest.jobs.store import JobStore
from services.registry.tasks import fine_tune
from services.unlearning.tasks import remove
from services.unlearning.workspace import Workspace
from tests.integration.unlearning import data
from tests.integration.unlearning.test_requests import is_folder, submitted

MANY = 100000


class Steps:
    """Steps of every optimiser of this process, and how many there had been when a cancellation was heard of."""

    def __init__(self) -> None:
        self.done = 0
        self.heard_at: int | None = None

    def count(self, *_: object) -> None:
        self.done += 1


@pytest.fixture
def steps() -> Iterator[Steps]:
    steps = Steps()
    handle: Any = register_optimizer_step_post_hook(steps.count)
    yield steps
    handle.remove()


class Hearing(Attempt):
    """An attempt that notes when its heartbeat hears that the job is cancelled."""

    steps: Steps

    def _ask(self, interrupt: type[Exception]) -> None:
        super()._ask(interrupt)
        if interrupt is Cancelled and self.steps.heard_at is None:
            self.steps.heard_at = self.steps.done


@pytest.fixture
def cancelled(resources, steps: Steps) -> Callable[..., Any]:
    """Run a job as a worker does, and cancel it once it has trained a little."""
    store = JobStore(resources.redis, resources.settings)

    def attempt(job_id: str, handler: Callable[..., Any]) -> None:
        record = store.claim(job_id, "an owner", "a worker")
        assert record is not None
        with Hearing(store, record) as progress:
            progress.steps = steps
            handler(
                record.request_message(),
                JobContext(record.id, record.principal, 1, progress, resources, record.inputs),
            )

    async def run(client, operation: str, handler: Callable[..., Any]) -> None:
        job_id = operation.removeprefix("operations/")
        running = asyncio.create_task(asyncio.to_thread(attempt, job_id, handler))
        while steps.done < 3:
            await asyncio.wait([running], timeout=0.01)
            assert not running.done(), running.exception()
        await client.jobs.cancel(operation)
        with pytest.raises(Cancelled):
            await running
        assert steps.heard_at is not None
        assert steps.done - steps.heard_at <= 1, f"{steps.done - steps.heard_at} steps after it was heard"
        assert steps.done < MANY

    return run


async def test_a_removal_stops_within_a_step_and_leaves_nothing(client, plan, resources, cancelled):
    training = {"steps": MANY, "batch": 4, "learning_rate": 1e-6, "checkpoint_steps": 1}
    name, operation = await submitted(client, await plan(training=training))
    await cancelled(client, operation, remove)
    space = Workspace(resources.settings, "local", name.rpartition("/")[2])
    assert not is_folder(str(space.folder))
    assert not [each for each in left(resources) if space.key in each]


async def test_a_fine_tuning_stops_within_a_step_and_leaves_nothing(client, resources, cancelled):
    lines = data.lines(*({"text": data.kept(number)["text"]} for number in range(6)))
    train = (await client.artifacts.upload(lines)).digest
    fields = {"base": "tiny", "model_id": "never-tuned", "train": train, "steps": MANY, "checkpoint_every": 1}
    job = await client.models.fine_tune(**fields)
    await cancelled(client, job.name, fine_tune)
    assert not [each for each in left(resources) if job.name.removeprefix("operations/") in each]


def left(resources) -> list[str]:
    return [path.name for path in resources.settings.models_dir.iterdir() if path.is_dir()]
