"""Metrics of the job store, read from the records' own indexes at each scrape."""

from collections.abc import Iterator

import redis
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from palimpsest.errors import PalimpsestError
from palimpsest.jobs.store import JobStore
from palimpsest.settings import Settings


class JobCollector(Collector):
    """Queue depths and ages, workers, attempts and outcomes. Every registry exports the same: take the maximum.

    Parameters
    ----------
    settings
        Where the job store is.
    """

    def __init__(self, settings: Settings) -> None:
        # A scrape runs on its own thread and must not wait for a Redis that does not answer.
        client = redis.Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._store = JobStore(client, settings)
        self._queues = settings.queues

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not ask Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; none while Redis does not answer, for which there is another alert."""
        try:
            stats = self._store.stats(self._queues)
            workers = self._store.workers()
        except PalimpsestError:
            return
        jobs = GaugeMetricFamily("palimpsest_jobs", "Jobs waiting and running.", labels=["queue", "state"])
        age = GaugeMetricFamily(
            "palimpsest_queue_age_seconds", "Time the oldest waiting job has waited.", labels=["queue"]
        )
        served = GaugeMetricFamily(
            "palimpsest_queue_served",
            "1 while a live worker takes jobs from the queue, else 0.",
            labels=["queue"],
        )
        for name, queue in stats.queues.items():
            served.add_metric([name], float(queue.served))
            jobs.add_metric([name, "queued"], queue.queued)
            jobs.add_metric([name, "running"], queue.running)
            age.add_metric([name], queue.age)
        ended = CounterMetricFamily(
            "palimpsest_jobs_finished", "Jobs that ended, by how.", labels=["kind", "outcome"]
        )
        attempts = CounterMetricFamily("palimpsest_job_attempts", "Attempts started.", labels=["kind"])
        for name, value in stats.counters.items():
            what, *labels = name.split()
            if what == "ended":
                ended.add_metric(labels, value)
            elif what == "attempts":
                attempts.add_metric(labels, value)
        lapsed = CounterMetricFamily(
            "palimpsest_leases_expired",
            "Attempts whose worker stopped sending heartbeats.",
            value=stats.counters.get("lapsed", 0),
        )
        alive = GaugeMetricFamily("palimpsest_workers", "Live workers.", value=len(workers))
        yield from (jobs, age, served, ended, attempts, lapsed, alive)
