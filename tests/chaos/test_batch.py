"""A real batch job on the real stack, its worker killed in the middle of it."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from palimpsest import Client
from palimpsest.embedded.stack import Stack
from palimpsest.settings import Settings
from tests.waiting import until

TRIALS = int(os.environ.get("PALIMPSEST_CHAOS_TRIALS", "1"))
LINES = 40
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120 + 120 * TRIALS)]


def worker_pid(stack: Stack) -> int | None:
    return next(child.pid for child in stack.status() if child.name == "worker")


def test_the_batch_completes_by_itself(tmp_path: Path, tiny_model: Path, record_property):
    settings = Settings(state_dir=tmp_path, redis_url="", listen="127.0.0.1:0", threads=1, drain_seconds=1.0)
    with Stack(settings) as stack, Client(stack.target) as client:
        client.models.register_model(model_id="batch", source=str(tiny_model)).result(timeout=60)
        for trial in range(TRIALS):
            lines = [{"prompt": f"trial {trial} line {n}", "max_tokens": 100 + 45 * n} for n in range(LINES)]
            data = "".join(json.dumps(line) + "\n" for line in lines).encode()
            artifact = client.artifacts.upload(data, media_type="application/jsonl")
            job = client.decoding.generate_batch(model="batch", input=artifact.digest)
            until(lambda job=job: job.progress().done >= 2, timeout=60)
            pid = worker_pid(stack)
            assert pid is not None
            os.killpg(pid, signal.SIGKILL)
            killed = time.monotonic()
            until(lambda job=job: job.progress().attempt >= 2, timeout=60)
            seconds = time.monotonic() - killed
            record_property(f"rerun_seconds_{trial}", round(seconds, 1))
            print(f"trial {trial}: runs again after {seconds:.1f} s")
            result = job.result(timeout=120)
            assert (result.succeeded, result.failed) == (LINES, 0)
            texts = client.artifacts.read_bytes(result.output.digest).splitlines()
            assert [json.loads(line)["index"] for line in texts] == list(range(LINES))
