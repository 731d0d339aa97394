"""With the profile gpu, jobs that need a model run on its worker, else on the CPU worker; each is its caller's."""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palimpsest import Client
from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.client import Job
from palimpsest.errors import Cancelled, NotFound, Reason
from tests.compose.containers import PROJECT, container, docker, worker_of
from tests.integration.conftest import Served
from tests.waiting import until

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PROJECT, reason="runs against containers: make test-compose"),
]


@pytest.fixture
def callers(stack: Served) -> Iterator[dict[str, Client]]:
    tokens = json.loads(os.environ["PALIMPSEST_TEST_TOKENS"])
    clients = {name: Client(stack.target, token=token) for name, token in tokens.items()}
    yield clients
    for client in clients.values():
        client.close()


def batch(client: Client, model: Path, lines: int) -> Job:
    """A batch nobody has asked for before, of a registered model."""
    client.models.register_model(model_id="gpu-profile", source=str(model)).result(timeout=120)
    prompts = [{"prompt": f"{uuid.uuid4().hex}", "max_tokens": 400} for _ in range(lines)]
    data = "".join(json.dumps(prompt) + "\n" for prompt in prompts).encode()
    artifact = client.artifacts.upload(data, media_type="application/jsonl")
    return client.decoding.generate_batch(model="gpu-profile", input=artifact.digest)


def alive(service: str) -> bool:
    return docker("inspect", "-f", "{{.State.Health.Status}}", container(service)) == "healthy"


REFUSED: dict[str, Callable[[Client, str], Any]] = {
    "watch": lambda client, name: next(iter(client.job(name))),
    "cancel": lambda client, name: client.jobs.cancel(name),
    "get": lambda client, name: client.jobs.get(name),
    "wait": lambda client, name: client.jobs.wait(name, timeout=5),
    "retry": lambda client, name: client.jobs.retry(name),
    "delete": lambda client, name: client.jobs.delete(name),
}


def test_a_job_that_needs_a_model_runs_on_the_profiles_worker_and_is_its_callers_alone(callers, tiny_model):
    until(lambda: alive("worker-gpu"), timeout=120, interval=1)
    job = batch(callers["ann"], tiny_model, lines=3000)
    until(lambda: job.progress().state == jobs_pb2.JOB_STATE_RUNNING, timeout=120)
    assert job.progress().queue == "gpu"
    assert worker_of(job) == "worker-gpu"
    for refused in REFUSED.values():
        with pytest.raises(NotFound) as caught:
            refused(callers["bob"], job.name)
        assert caught.value.reason == Reason.JOB_NOT_FOUND
    listed = callers["bob"].jobs.list(page_size=1000)
    assert job.name not in {operation.name for operation in listed.operations}
    seen = job.progress()
    assert (seen.state, seen.cancel_requested) == (jobs_pb2.JOB_STATE_RUNNING, False)
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(timeout=60)


def test_without_the_profiles_worker_it_runs_on_the_cpu_worker(callers, tiny_model):
    docker("stop", container("worker-gpu"))
    try:
        job = batch(callers["ann"], tiny_model, lines=2)
        assert job.result(timeout=300).succeeded == 2
        assert worker_of(job) == "worker-cpu"
    finally:
        docker("start", container("worker-gpu"))
    until(lambda: alive("worker-gpu"), timeout=120, interval=1)
