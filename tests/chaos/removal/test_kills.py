"""A removal request whose worker is killed at random steps, and whose job store is: it ends as if nothing had happened.

PALIMPSEST_CHAOS_KILLS sets how many steps the worker is killed at (2), PALIMPSEST_CHAOS_SEED which ones.
"""

import os
import random
import signal
import time

import pytest

from palimpsest.api.jobs.v1 import jobs_pb2
from tests.chaos.conftest import Within
from tests.chaos.removal.conftest import LONG, STEPS, Installation
from tests.integration.unlearning import data
from tests.waiting import until

KILLS = int(os.environ.get("PALIMPSEST_CHAOS_KILLS", "2"))
SEED = int(os.environ.get("PALIMPSEST_CHAOS_SEED", "0"))
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900 + 120 * KILLS)]

POINTS = [("training", step) for step in sorted(random.Random(SEED).sample(range(1, STEPS * 3 // 4), KILLS))]
KILLED_AT = [*POINTS, ("attack", 0)]
"""Stages in which the worker dies, and the steps done by then."""
LATER = ("evaluating", "attack", "scoring", "deciding")
"""How stages after training begin."""


@pytest.fixture(scope="module")
def attempts() -> int:
    return len(KILLED_AT) + 1


def test_a_request_whose_worker_is_killed_ends_with_the_same_model_and_one_certificate(
    installation: Installation, undisturbed, within: Within, record_property
):
    record_property("killed at", f"{KILLED_AT}, PALIMPSEST_CHAOS_SEED={SEED}")
    print(f"killed at {KILLED_AT}, PALIMPSEST_CHAOS_SEED={SEED}")
    job = installation.start("killed")

    def runs(attempt: int) -> bool:
        seen = job.progress()
        return seen.attempt == attempt and seen.state == jobs_pb2.JOB_STATE_RUNNING

    def has_come(attempt: int, stage: str, done: int) -> bool:
        seen = job.progress()
        if seen.attempt != attempt or seen.state != jobs_pb2.JOB_STATE_RUNNING:
            return False
        there = seen.stage.startswith(stage) and seen.done >= done
        return there or (stage == "training" and seen.stage.startswith(LATER))

    for attempt, (stage, done) in enumerate(KILLED_AT, 1):
        until(lambda attempt=attempt, stage=stage, done=done: has_come(attempt, stage, done), LONG)
        os.killpg(installation.pid("worker"), signal.SIGKILL)
        within("runs again", 40, lambda attempt=attempt: runs(attempt + 1), time.monotonic())
    installation.ended(job)
    assert job.progress().attempt == len(KILLED_AT) + 1
    assert installation.made("killed") == undisturbed
    client, settings = installation.client, installation.stack.settings
    log = b"".join(part.data for part in client.unlearning.read_audit_log()).decode().splitlines()
    issued = [line for line in log if '"CERTIFICATE_ISSUED"' in line and '"killed"' in line]
    assert len(issued) == 1
    assert not list((settings.state_dir / "unlearning" / "runs").iterdir())
    left = sorted(path.name for path in settings.models_dir.iterdir() if path.is_dir())
    requests = client.unlearning.list_removal_requests().removal_requests
    names = [each.name.rpartition("/")[2] for each in requests]
    assert left == sorted(installation.space(name).registered.name for name in names)


def test_a_run_for_several_requests_whose_worker_is_killed_makes_the_same_weights(
    installation: Installation,
):
    """Two groups alike, each behind a request that is cancelled once all of it waits; one loses its worker."""
    client, made = installation.client, []
    parts = [
        client.artifacts.upload(data.lines(*map(data.secret, numbers))).digest
        for numbers in (range(2), range(2, 6))
    ]
    for name in ("calm", "lost"):
        before = installation.start(f"before-{name}", steps=1_000_000)
        until(lambda before=before: before.progress().stage.startswith("training"), LONG)
        together = {"coalesce": True, "attacks": {"names": ["bfloat16"]}}
        jobs = [
            installation.start(f"{name}-{number}", {"forget": part, **together}, steps=60)
            for number, part in enumerate(parts)
        ]
        before.cancel()
        if name == "lost":
            until(lambda: list(installation.space("lost-0").checkpoints.glob("state-*")), LONG)
            os.killpg(installation.pid("worker"), signal.SIGKILL)
        for job in jobs:
            installation.ended(job)
        found = [installation.made(f"{name}-{number}") for number in range(2)]
        group = [f"removalRequests/{name}-{number}" for number in range(2)]
        assert [list(result.trained_together) for result, _ in found] == [group, group]
        assert [result.steps for result, _ in found] == [60, 60]
        made += [weights for _, weights in found]
        if name == "lost":
            assert jobs[0].progress().attempt == 2
    assert made[0] == made[1] == made[2] == made[3]
    log = b"".join(part.data for part in client.unlearning.read_audit_log()).decode().splitlines()
    assert [line.count('"TRAINED_TOGETHER"') for line in log if '"lost-0"' in line].count(1) == 1


@pytest.mark.parametrize("stage", ["training", "evaluating"])
def test_a_request_whose_job_store_is_killed_goes_on_and_is_not_started_again(
    installation: Installation, undisturbed, stage: str
):
    job = installation.start(f"stored-{stage}")
    space = installation.space(f"stored-{stage}")
    trained, measured = space.folder / "trained.json", space.folder / "after.json"
    if stage == "training":
        until(lambda: list(space.checkpoints.glob("state-*")), LONG)
        assert not trained.exists()
    else:
        until(trained.exists, LONG)
        assert not measured.exists()
    os.kill(installation.pid("valkey"), signal.SIGKILL)
    installation.ended(job)
    assert job.progress().attempt == 1
    assert installation.made(f"stored-{stage}") == undisturbed
    assert not space.folder.exists()
