"""What the metrics and quotas count."""

import json

import pytest
import redis
from prometheus_client.core import CollectorRegistry
from prometheus_client.exposition import generate_latest

from palimpsest.errors import ResourceExhausted
from palimpsest.jobs import JobStore
from palimpsest.jobs.metrics import JobCollector
from palimpsest.jobs.replies import QueueStats
from palimpsest.settings import Settings
from tests.unit.jobs.harness import Clock, echo, run_of


def test_queues_are_counted_by_state_and_age(settings: Settings):
    clock = Clock()
    store = JobStore(redis.Redis.from_url(settings.redis_url), settings, clock=clock)
    first = store.submit(echo("a"))
    clock.advance(30)
    store.submit(echo("b"))
    store.submit(echo("c", queue="gpu"))
    clock.advance(30)
    assert store.stats(["cpu", "gpu"]).queues == {
        "cpu": QueueStats(2, 0, 60.0),
        "gpu": QueueStats(1, 0, 30.0),
    }
    claimed = store.claim(first.id, "o", "w")
    assert store.stats(["cpu"]).queues == {"cpu": QueueStats(1, 1, 30.0)}
    store.succeed(run_of(claimed), "google.protobuf.StringValue", json.dumps("x"), {})
    stats = store.stats(["cpu"])
    assert stats.queues["cpu"].running == 0
    assert stats.counters == {"attempts test.echo": 1, "ended test.echo succeeded": 1}


def test_a_caller_has_a_quota_of_waiting_jobs(settings: Settings):
    limited = settings.model_copy(update={"quota_queued_jobs": 1})
    store = JobStore(redis.Redis.from_url(settings.redis_url), limited)
    store.submit(echo("a", principal="alice"))
    with pytest.raises(ResourceExhausted) as caught:
        store.submit(echo("b", principal="alice"))
    assert caught.value.reason == "QUOTA_EXCEEDED"
    store.submit(echo("b", principal="bob"))


def test_prometheus_reads_them(settings: Settings):
    store = JobStore(redis.Redis.from_url(settings.redis_url), settings)
    store.submit(echo("a"))
    store.beat("here:1:ab", 30)
    assert store.workers("here") == ["here:1:ab"]
    registry = CollectorRegistry()
    registry.register(JobCollector(settings))
    text = generate_latest(registry).decode()
    assert 'palimpsest_jobs{queue="cpu",state="queued"} 1.0' in text
    assert "palimpsest_workers 1.0" in text


def test_a_scrape_survives_a_redis_that_is_away(settings: Settings, tmp_path):
    away = settings.model_copy(update={"redis_url": f"unix://{tmp_path}/nothing.sock"})
    registry = CollectorRegistry()
    registry.register(JobCollector(away))
    assert generate_latest(registry) == b""
