"""A real sweep of grafts on the real stack, its worker killed in the middle of it."""

import itertools
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
from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.embedded.stack import Stack
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.jobs import JobStore
from palimpsest.settings import Settings
from tests.chaos.conftest import Within
from tests.tiny import write_tiny_model
from tests.waiting import until

TRIALS = int(os.environ.get("PALIMPSEST_CHAOS_TRIALS", "1"))
POINTS = int(os.environ.get("PALIMPSEST_CHAOS_POINTS", "1"))
CASES = 24 * (POINTS + 1)
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300 + 120 * TRIALS)]


KINDS: dict[str, dict[str, Any]] = {
    "cells": {},
    "estimates, cells and sets": {"mode": pb.SWEEP_MODE_BOTH, "sufficient": {}, "axes": {"window": 2}},
}


@pytest.mark.parametrize("trial", range(TRIALS))
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_sweep_killed_at_random_points_goes_on_to_the_same_bytes(
    tmp_path: Path, within: Within, trial: int, kind: str
):
    settings = Settings(
        state_dir=tmp_path / "state", redis_url="", listen="127.0.0.1:0", threads=1, drain_seconds=1.0
    ).model_copy(update={"lease_seconds": 8.0, "job_max_attempts": 2 * POINTS, "checkpoint_seconds": 0.05})
    dice = random.Random(trial)
    points = sorted(dice.sample(range(1, CASES * 2 // 3), POINTS))
    words = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
    cases = [
        {"prompt": f"{trial} " + " ".join(dice.choices(words, k=24)), "target": f" {dice.choice(words)}"}
        for _ in range(CASES)
    ]
    with Stack(settings) as stack, Client(stack.target) as client:
        store = JobStore(redis.Redis.from_url(ValkeyServer(tmp_path / "state" / "valkey").url), settings)
        for seed, name in enumerate(("base", "donor")):
            source = str(write_tiny_model(tmp_path / name, seed))
            client.models.register_model(model_id=name, source=source).result(timeout=120)
        work: dict[str, Any] = {"pair": {"base": "base", "donor": "donor"}, "cases": cases, **KINDS[kind]}
        job = client.grafting.sweep_grafts(**work)

        def pieces() -> list[str]:
            record = store.get(job.name.removeprefix("operations/"))
            return json.loads(record.checkpoint or "{}").get("pieces", [])

        def runs(attempt: int) -> bool:
            seen = job.progress()
            return seen.attempt == attempt and seen.state == jobs_pb2.JOB_STATE_RUNNING

        kept: list[list[str]] = []
        for attempt, point in enumerate(points, 1):
            until(lambda point=point: len(pieces()) >= point, timeout=180)
            assert runs(attempt), f"attempt {attempt} was to be killed at batch {point}: {job.progress()}"
            pid = next(child.pid for child in stack.status() if child.name == "worker")
            assert pid is not None
            os.killpg(pid, signal.SIGKILL)
            killed = time.monotonic()
            kept.append(pieces())
            within("runs again", 40, lambda attempt=attempt: runs(attempt + 1), killed)
        result = job.result(timeout=240)
        kept.append(pieces())
        # Each attempt took over every batch of the one before, and the last one no fewer than were noted.
        for before, after in itertools.pairwise(kept):
            assert after[: len(before)] == before
        assert job.progress().attempt == POINTS + 1
        assert 0 < result.resumed_cells < result.cells
        undisturbed = client.grafting.sweep_grafts(**work, skip_cache=True)
        assert undisturbed.name != job.name
        whole = undisturbed.result(timeout=240)
        assert (whole.resumed_cells, whole.table.digest) == (0, result.table.digest)
        assert result.row_layers < whole.row_layers
        table = json.loads(client.artifacts.read_bytes(result.table.digest))
        assert [case["prompt"] for case in table["cases"]] == [case["prompt"] for case in cases]
