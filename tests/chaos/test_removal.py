"""A removal request on the real stack, its worker killed while it trains and while it attacks what it has made."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from palimpsest import Client
from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.embedded.stack import Stack
from palimpsest.settings import Settings
from tests.chaos.conftest import Within
from tests.chaos.test_training import worker_pid
from tests.integration.unlearning import data
from tests.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]

STEPS = 120
KILLS = (("training", 20), ("attack", 0))
"""Stages in which the worker dies, and the steps done by then."""


def test_a_request_whose_worker_is_killed_ends_with_the_same_model_and_one_certificate(
    tmp_path: Path, tiny_model: Path, within: Within
):
    settings = Settings(
        state_dir=tmp_path, redis_url="", listen="127.0.0.1:0", threads=1, drain_seconds=1.0
    ).model_copy(update={"lease_seconds": 8.0, "job_max_attempts": len(KILLS) + 1})
    with Stack(settings) as stack, Client(stack.target) as client:
        client.models.register_model(model_id="base", source=str(tiny_model)).result(timeout=60)
        plan: dict[str, Any] = {
            "model": "base",
            "algorithm": "ga_gdr",
            "forget": client.artifacts.upload(data.FORGET).digest,
            "retain": client.artifacts.upload(data.RETAIN).digest,
            "training": {"steps": STEPS, "learning_rate": 1e-4, "batch": 4, "checkpoint_steps": 5},
        }
        job = client.unlearning.create_removal_request(
            plan={**plan, "new_model": "killed"}, removal_id="killed"
        )

        def runs(attempt: int) -> bool:
            seen = job.progress()
            return seen.attempt == attempt and seen.state == jobs_pb2.JOB_STATE_RUNNING

        def has_come(attempt: int, stage: str, done: int) -> bool:
            seen = job.progress()
            return runs(attempt) and seen.stage.startswith(stage) and seen.done >= done

        for attempt, (stage, done) in enumerate(KILLS, 1):
            until(lambda attempt=attempt, stage=stage, done=done: has_come(attempt, stage, done), timeout=120)
            pid = worker_pid(stack)
            assert pid is not None
            os.killpg(pid, signal.SIGKILL)
            within("runs again", 40, lambda attempt=attempt: runs(attempt + 1), time.monotonic())
        killed = job.result(timeout=120).result
        assert job.progress().attempt == len(KILLS) + 1
        whole = client.unlearning.create_removal_request(
            plan={**plan, "new_model": "whole"}, removal_id="whole"
        )
        undisturbed = whole.result(timeout=120).result
        assert killed.new_model_fingerprint == undisturbed.new_model_fingerprint
        assert [m.value for m in killed.measurements] == [m.value for m in undisturbed.measurements]
        log = b"".join(part.data for part in client.unlearning.read_audit_log()).decode().splitlines()
        issued = [line for line in log if '"CERTIFICATE_ISSUED"' in line and '"killed"' in line]
        assert len(issued) == 1
        assert not list((tmp_path / "unlearning" / "runs").iterdir())
        left = sorted(path.name for path in (tmp_path / "models").iterdir() if path.is_dir())
        assert len(left) == 2, left
