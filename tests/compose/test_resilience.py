"""Containers that are killed and cut off in the middle of a job: the job completes all the same."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from palimpsest import Client
from palimpsest.client import Job
from tests.compose.containers import PROJECT, container, docker, worker_of
from tests.integration.conftest import Served
from tests.waiting import until

LINES = 300
pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PROJECT, reason="runs against containers: make test-compose"),
]


def killed(worker: str) -> None:
    docker("kill", worker)
    docker("start", worker)


def cut_off(worker: str) -> None:
    network = f"{PROJECT}_palimpsest"
    before = docker("inspect", "-f", "{{.State.Pid}}", worker)
    docker("network", "disconnect", network, worker)
    try:
        # Longer than the lease: the registry takes the job back meanwhile.
        with pytest.raises(AssertionError):
            until(lambda: docker("inspect", "-f", "{{.State.Pid}}", worker) != before, timeout=8, interval=1)
    finally:
        docker("network", "connect", network, worker)


@pytest.fixture
def long_job(stack: Served, tiny_model: Path, request: pytest.FixtureRequest) -> Iterator[Job]:
    with Client(stack.target, token=stack.token) as client:
        client.models.register_model(model_id="resilience", source=str(tiny_model)).result(timeout=120)
        lines = [{"prompt": f"{request.node.name} {index}", "max_tokens": 500} for index in range(LINES)]
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        artifact = client.artifacts.upload(data, media_type="application/jsonl")
        job = client.decoding.generate_batch(model="resilience", input=artifact.digest)
        until(lambda: job.progress().done >= 5, timeout=300)  # a new container loads torch first
        assert not job.done()
        yield job
        job.cancel()


@pytest.mark.parametrize("disaster", [killed, cut_off])
def test_the_job_completes(stack: Served, long_job: Job, disaster: Callable[[str], None]):
    disaster(container(worker_of(long_job)))
    with Client(stack.target, token=stack.token) as client:
        job = client.job(long_job.name)
        result = job.result(timeout=300)
        assert (result.succeeded, result.failed) == (LINES, 0)
        assert len(client.artifacts.read_bytes(result.output.digest).splitlines()) == LINES
        assert job.progress().attempt >= 2
