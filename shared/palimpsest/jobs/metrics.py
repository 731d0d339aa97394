"""Metrics of the job store, counted where the truth is, whenever Prometheus asks."""

from collections.abc import Iterator

import redis
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from palimpsest.errors import PalimpsestError
from palimpsest.jobs.celery_app import QUEUES
from palimpsest.jobs.store import JobStore
from palimpsest.settings import Settings


class JobCollector(Collector):
    """Queue depths, ages, attempts and outcomes; every registry exports the same, so take the maximum.

    Parameters
    ----------
    settings
        Where the job store is.
    """

    def __init__(self, settings: Settings) -> None:
        # A scrape runs on a thread of its own and must not wait for a Redis that is away.
        client = redis.Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._store = JobStore(client, settings)

    def describe(self) -> list[Metric]:
        """Nothing: registering must not ask Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; none while Redis does not answer, which is an alert of its own."""
        try:
            stats = self._store.stats(QUEUES)
            workers = self._store.workers()
        except PalimpsestError:
            return
        jobs = GaugeMetricFamily("palimpsest_jobs", "Jobs waiting and running.", labels=["queue", "state"])
        age = GaugeMetricFamily(
            "palimpsest_queue_age_seconds", "Time the oldest waiting job has waited.", labels=["queue"]
        )
        for name, queue in stats.queues.items():
            jobs.add_metric([name, "queued"], queue.queued)
            jobs.add_metric([name, "running"], queue.running)
            age.add_metric([name], queue.age)
        ended = CounterMetricFamily(
            "palimpsest_jobs_finished", "Jobs that ended, by how.", labels=["kind", "outcome"]
        )
        attempts = CounterMetricFamily("palimpsest_job_attempts", "Runs begun.", labels=["kind"])
        for name, value in stats.counters.items():
            what, *labels = name.split()
            if what == "ended":
                ended.add_metric(labels, value)
            elif what == "attempts":
                attempts.add_metric(labels, value)
        lapsed = CounterMetricFamily(
            "palimpsest_leases_expired",
            "Runs whose worker fell silent.",
            value=stats.counters.get("lapsed", 0),
        )
        alive = GaugeMetricFamily("palimpsest_workers", "Workers that take part.", value=len(workers))
        yield from (jobs, age, ended, attempts, lapsed, alive)
