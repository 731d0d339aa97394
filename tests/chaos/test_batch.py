"""A real batch job on the real stack, its worker, its server and its Valkey killed in the middle of it."""

import contextlib
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
from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.embedded.stack import Stack
from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.errors import PalimpsestError
from palimpsest.jobs import JobStore
from palimpsest.settings import Settings
from tests.chaos.conftest import Within
from tests.waiting import until

TRIALS = int(os.environ.get("PALIMPSEST_CHAOS_TRIALS", "1"))
LINES = 160
"""So many that a fast machine is not through before it has told of its progress, which it does every two seconds."""
POINTS = 5
MANY_LINES = 200
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300 + 120 * TRIALS)]


def pid_of(stack: Stack, name: str) -> int | None:
    return next(child.pid for child in stack.status() if child.name == name)


def worker_pid(stack: Stack) -> int | None:
    return pid_of(stack, "worker")


def test_the_batch_completes_by_itself(tmp_path: Path, tiny_model: Path, within: Within):
    settings = Settings(state_dir=tmp_path, redis_url="", listen="127.0.0.1:0", threads=1, drain_seconds=1.0)
    with Stack(settings) as stack, Client(stack.target) as client:
        client.models.register_model(model_id="batch", source=str(tiny_model)).result(timeout=60)
        for trial in range(TRIALS):
            lines = [
                {"prompt": f"trial {trial} line {n}", "max_tokens": 100 + 45 * (n % 40)} for n in range(LINES)
            ]
            data = "".join(json.dumps(line) + "\n" for line in lines).encode()
            artifact = client.artifacts.upload(data, media_type="application/jsonl")
            job = client.decoding.generate_batch(model="batch", input=artifact.digest)
            until(lambda job=job: job.progress().done >= 2, timeout=60)
            pid = worker_pid(stack)
            assert pid is not None
            os.killpg(pid, signal.SIGKILL)
            killed = time.monotonic()
            within("runs again", 40, lambda job=job: job.progress().attempt >= 2, killed)
            result = job.result(timeout=120)
            assert (result.succeeded, result.failed) == (LINES, 0)
            texts = client.artifacts.read_bytes(result.output.digest).splitlines()
            assert [json.loads(line)["index"] for line in texts] == list(range(LINES))


@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_batch_killed_at_five_points_goes_on_to_the_same_bytes(
    tmp_path: Path, tiny_model: Path, within: Within, trial: int
):
    settings = Settings(
        state_dir=tmp_path, redis_url="", listen="127.0.0.1:0", threads=1, drain_seconds=1.0
    ).model_copy(update={"lease_seconds": 8.0, "job_max_attempts": 2 * POINTS, "checkpoint_seconds": 0.2})
    dice = random.Random(trial)
    points = sorted(dice.sample(range(1, MANY_LINES * 2 // 3), POINTS))
    lines = [{"prompt": f"{trial} {n}", "max_tokens": dice.randint(40, 160)} for n in range(MANY_LINES)]
    with Stack(settings) as stack, Client(stack.target) as client:
        store = JobStore(redis.Redis.from_url(ValkeyServer(tmp_path / "valkey").url), settings)
        client.models.register_model(model_id="batch", source=str(tiny_model)).result(timeout=60)
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        work: dict[str, Any] = {
            "model": "batch",
            "input": client.artifacts.upload(data, media_type="application/jsonl").digest,
            "sampling": {"temperature": 1.0},
        }
        job = client.decoding.generate_batch(**work)

        def state() -> dict[str, Any]:
            return json.loads(store.get(job.name.removeprefix("operations/")).checkpoint or "{}")

        def runs(attempt: int) -> bool:
            seen = job.progress()
            return seen.attempt == attempt and seen.state == jobs_pb2.JOB_STATE_RUNNING

        kept: list[dict[str, Any]] = []
        for attempt, point in enumerate(points, 1):
            # By the checkpoint, written five times a second: progress is told with the heartbeat, every two seconds,
            # and in two seconds a fast machine may be through with all of it.
            until(lambda point=point: state().get("lines", 0) >= point, timeout=120)
            assert runs(attempt), f"attempt {attempt} was to be killed at line {point}: {job.progress()}"
            pid = worker_pid(stack)
            assert pid is not None
            os.killpg(pid, signal.SIGKILL)
            killed = time.monotonic()
            kept.append(state())
            within("runs again", 40, lambda attempt=attempt: runs(attempt + 1), killed)
        result = job.result(timeout=120)
        assert (result.succeeded, result.failed) == (MANY_LINES, 0)
        kept.append(state())
        # Each attempt took over every piece of the one before: nothing saved was done again.
        for before, after in itertools.pairwise(kept):
            assert after["pieces"][: len(before["pieces"])] == before["pieces"]
        assert job.progress().attempt == POINTS + 1
        undisturbed = client.decoding.generate_batch(**work, skip_cache=True)
        assert undisturbed.name != job.name
        assert undisturbed.result(timeout=120).output.digest == result.output.digest
        read = client.artifacts.read_bytes(result.output.digest)
        assert [json.loads(line)["index"] for line in read.splitlines()] == list(range(MANY_LINES))


def test_a_batch_outlives_the_kill_of_every_process_with_the_same_bytes(tmp_path: Path, tiny_model: Path):
    settings = Settings(
        state_dir=tmp_path, redis_url="", listen="127.0.0.1:0", threads=1, drain_seconds=1.0
    ).model_copy(update={"lease_seconds": 8.0, "job_max_attempts": 10, "checkpoint_seconds": 0.2})
    lines = [{"id": n, "prompt": f"line {n}", "max_tokens": 40 + 3 * (n % 40)} for n in range(MANY_LINES)]
    with Stack(settings) as stack, Client(stack.target) as client:
        store = JobStore(redis.Redis.from_url(ValkeyServer(tmp_path / "valkey").url), settings)
        client.models.register_model(model_id="batch", source=str(tiny_model)).result(timeout=60)
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        work: dict[str, Any] = {
            "model": "batch",
            "input": client.artifacts.upload(data, media_type="application/jsonl").digest,
            "sampling": {"temperature": 1.0, "top_p": 0.9},
            "n": 2,
        }
        job = client.decoding.generate_batch(**work)

        def done() -> int:
            with contextlib.suppress(PalimpsestError, redis.RedisError):  # while Valkey is away
                state = json.loads(store.get(job.name.removeprefix("operations/")).checkpoint or "{}")
                return state.get("lines", 0)
            return 0

        for victim, point in (("server", 10), ("valkey", 50), ("worker", 90)):
            until(lambda point=point: done() >= point, timeout=120)
            assert done() < MANY_LINES, f"through before the {victim} was killed"
            pid = until(lambda victim=victim: pid_of(stack, victim), timeout=60)
            assert pid is not None
            os.killpg(pid, signal.SIGKILL)
        result = job.result(timeout=180)
        assert (result.succeeded, result.failed) == (MANY_LINES, 0)
        undisturbed = client.decoding.generate_batch(**work, skip_cache=True)
        assert undisturbed.name != job.name
        assert undisturbed.result(timeout=180).output.digest == result.output.digest
        read = client.artifacts.read_bytes(result.output.digest)
        assert [json.loads(line)["index"] for line in read.splitlines()] == list(range(MANY_LINES))


def test_a_cancelled_batch_leaves_the_server_at_once(tmp_path: Path, tiny_model: Path, within: Within):
    settings = Settings(state_dir=tmp_path, redis_url="", listen="127.0.0.1:0", threads=1, drain_seconds=1.0)
    with Stack(settings) as stack, Client(stack.target) as client:
        client.models.register_model(model_id="batch", source=str(tiny_model)).result(timeout=60)
        data = b"".join(b'{"prompt": "%d", "max_tokens": 1900}\n' % n for n in range(MANY_LINES))
        artifact = client.artifacts.upload(data, media_type="application/jsonl")
        job = client.decoding.generate_batch(model="batch", input=artifact.digest)

        def engine() -> Any:
            return client.decoding.get_engine_info().models[0]

        until(lambda: client.decoding.get_engine_info().models and engine().generated_tokens > 0, timeout=60)
        assert engine().cache_bytes_used > 0
        job.cancel()
        cancelled = time.monotonic()
        within(
            "a cancelled batch is out of the engine", 10, lambda: engine().cache_bytes_used == 0, cancelled
        )
        assert engine().generated_tokens < 1900 * MANY_LINES
        assert client.decoding.text(model="batch", prompt="the", max_tokens=3)
