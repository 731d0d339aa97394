"""A real training job on the real stack, its worker killed in the middle of it.

PALIMPSEST_CHAOS_TRIALS sets how often (1), PALIMPSEST_CHAOS_KILLS how many kills (2), PALIMPSEST_CHAOS_SEED when.
"""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from palimpsest import Client
from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.embedded.stack import Stack
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.jobs import JobStore
from palimpsest.settings import Settings
from tests.chaos.conftest import Within
from tests.waiting import until

TRIALS = int(os.environ.get("PALIMPSEST_CHAOS_TRIALS", "1"))
KILLS = int(os.environ.get("PALIMPSEST_CHAOS_KILLS", "2"))
SEED = int(os.environ.get("PALIMPSEST_CHAOS_SEED", "0"))
STEPS = 200
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600 + 120 * KILLS)]


def worker_pid(stack: Stack) -> int | None:
    return next(child.pid for child in stack.status() if child.name == "worker")


@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_training_that_is_killed_ends_with_the_same_weights(
    tmp_path: Path, tiny_model: Path, within: Within, trial: int, record_property
):
    settings = Settings(
        state_dir=tmp_path, redis_url="", listen="127.0.0.1:0", threads=1, drain_seconds=1.0
    ).model_copy(update={"lease_seconds": 8.0, "job_max_attempts": KILLS + 2})
    dice = random.Random(SEED + trial)
    points = sorted(dice.sample(range(5, STEPS * 2 // 3), KILLS))
    record_property("killed at", f"steps {points}, seed {SEED + trial}")
    print(f"killed at steps {points}, seed {SEED + trial}")
    data = "".join(
        json.dumps({"text": f"trial {trial}: {dice.random()} " + "the lazy dog " * 8}) + "\n"
        for _ in range(20)
    )
    with Stack(settings) as stack, Client(stack.target) as client:
        store = JobStore(redis.Redis.from_url(ValkeyServer(tmp_path / "valkey").url), settings)
        client.models.register_model(model_id="base", source=str(tiny_model)).result(timeout=60)
        work: dict[str, Any] = {
            "base": "base",
            "train": client.artifacts.upload(data.encode(), media_type="application/jsonl").digest,
            "steps": STEPS,
            "learning_rate": 1e-3,
            "checkpoint_every": 10,
        }
        job = client.models.fine_tune(model_id="killed", **work)

        def state() -> dict[str, Any]:
            return json.loads(store.get(job.name.removeprefix("operations/")).checkpoint or "{}")

        def runs(attempt: int) -> bool:
            seen = job.progress()
            return seen.attempt == attempt and seen.state == jobs_pb2.JOB_STATE_RUNNING

        for attempt, point in enumerate(points, 1):
            until(lambda point=point: state().get("step", 0) >= point, timeout=120)
            assert runs(attempt), f"attempt {attempt} was to be killed at step {point}: {job.progress()}"
            pid = worker_pid(stack)
            assert pid is not None
            os.killpg(pid, signal.SIGKILL)
            within("runs again", 40, lambda attempt=attempt: runs(attempt + 1), time.monotonic())
        killed = job.result(timeout=120)
        assert job.progress().attempt == KILLS + 1
        whole = client.models.fine_tune(model_id="whole", **work).result(timeout=120)
        assert killed.model.fingerprint == whole.model.fingerprint
        assert killed.curve.digest == whole.curve.digest
        assert killed.last_loss < killed.first_loss
        left = sorted(path.name for path in (tmp_path / "models").iterdir() if path.is_dir())
        assert len(left) == 2, left
        weights = [(tmp_path / "models" / name / "model.safetensors").read_bytes() for name in left]
        assert weights[0] == weights[1]
