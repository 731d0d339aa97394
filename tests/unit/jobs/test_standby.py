"""Queues and the workers that serve them: as their own, or while nobody else does."""

import json

import redis
from prometheus_client.core import CollectorRegistry
from prometheus_client.exposition import generate_latest
from typer.testing import CliRunner

from palimpsest import cli
from palimpsest.jobs import JobStore
from palimpsest.jobs.metrics import JobCollector
from palimpsest.settings import Settings
from tests.unit.jobs.harness import Clock, echo


def test_a_worker_that_stands_by_claims_only_while_no_other_owns_the_queue(store: JobStore, clock: Clock):
    jobs = [store.submit(echo(str(n), queue="gpu")).id for n in range(2)]
    other = store.submit(echo("other")).id
    assert store.claim(jobs[0], "o", "standby", standby=["gpu"]) is not None
    store.beat("owner:1:a", 60, own=["gpu"])
    assert store.claim(jobs[1], "o", "standby", standby=["gpu"]) is None
    assert store.get(jobs[1]).state == "QUEUED"
    assert (jobs[1], "gpu") in store.sweep().hints  # its message is spent, so that another is due at once
    assert store.claim(other, "o", "standby", standby=["gpu"]) is not None  # of another queue
    assert store.claim(jobs[1], "o", "owner:1:a") is not None


def test_a_worker_says_which_queues_it_serves(store: JobStore, client: redis.Redis):
    assert store.owned(["cpu", "gpu"]) == set()
    assert not store.stats(["gpu"]).queues["gpu"].served
    store.beat("here:1:ab", 60, own=["cpu"], standby=["gpu"])
    assert store.owned(["cpu", "gpu"]) == {"cpu"}
    assert store.stats(["gpu"]).queues["gpu"].served
    assert store.workers() == ["here:1:ab"]
    for key in client.keys(f"{store.prefix}queue:*"):
        assert 0 < client.ttl(key) <= 60


def test_the_metrics_say_which_queues_are_served(settings: Settings, store: JobStore):
    store.beat("here:1:ab", 60, own=["cpu"])
    registry = CollectorRegistry()
    registry.register(JobCollector(settings))
    text = generate_latest(registry).decode()
    assert 'palimpsest_queue_served{queue="cpu"} 1.0' in text
    assert 'palimpsest_queue_served{queue="gpu"} 0.0' in text


def test_doctor_names_the_queues_that_nobody_serves(settings: Settings, store: JobStore):
    variables = {
        "PALIMPSEST_REDIS_URL": settings.redis_url,
        "PALIMPSEST_REDIS_PREFIX": settings.redis_prefix,
        "PALIMPSEST_STATE_DIR": str(settings.state_dir),
        "PALIMPSEST_JOB_QUEUES": '{"cpu": "cpu", "model": "gpu", "train": "gpu"}',
    }

    def found() -> dict[str, str]:
        result = CliRunner().invoke(cli.app, ["doctor", "--json"], env=variables)
        return next(each for each in json.loads(result.stdout) if each["check"] == "job queues")

    store.submit(echo("waits", queue="gpu"))
    store.beat("here:1:ab", 60, own=["cpu"])
    seen = found()
    assert (seen["state"], seen["found"]) == ("problem", "no worker: gpu (1 waiting)")
    assert "PALIMPSEST_WORKER_QUEUES=gpu" in seen["remedy"]
    store.beat("there:1:cd", 60, own=["gpu"])
    assert (found()["state"], found()["remedy"]) == ("ok", "")
