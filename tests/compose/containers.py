"""The containers of the stack under test, by service and by the worker that runs a job."""

import os
import subprocess

from palimpsest.client import Job

PROJECT = os.environ.get("PALIMPSEST_TEST_PROJECT", "")
WORKERS = ("worker-cpu", "worker-gpu")


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


def container(service: str) -> str:
    labels = ("com.docker.compose.project", PROJECT), ("com.docker.compose.service", service)
    filters = [word for name, value in labels for word in ("--filter", f"label={name}={value}")]
    return docker("ps", "-aq", *filters).splitlines()[0]


def worker_of(job: Job) -> str:
    """The service whose worker holds, or last held, the job."""
    host = job.progress().worker.partition(":")[0]
    (service,) = (s for s in WORKERS if docker("inspect", "-f", "{{.Config.Hostname}}", container(s)) == host)
    return service
