"""The Celery application: one task, the queues of PALIMPSEST_JOB_QUEUES, and settings chosen to lose no message."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu.entity import Queue
from kombu.transport import redis

from palimpsest.errors import Reason, Unavailable
from palimpsest.settings import Settings

TASK = "palimpsest.run"
"""The only task. Its body is ``{"job_id": ..., "v": 1}``: a hint that the job may be ready."""

MESSAGE_VERSION = 1


class _Unacknowledged(redis.QoS):
    """The hints that a worker has received and not acknowledged: kombu's own, but for a connection that was lost.

    Kombu closes such a connection twice. To put hints back, or to acknowledge one, it then wants the address of a
    connection that is gone: an AttributeError, which ends the worker and all that it runs. There is nothing to do then:
    Redis still has the hints, and they are delivered again.
    """

    def restore_unacked(self, client: Any = None) -> None:
        if not self._lost:
            super().restore_unacked(client)
        elif self._delivered is not None:
            self._delivered.clear()

    def ack(self, delivery_tag: str) -> None:
        if not self._lost:
            super().ack(delivery_tag)

    @property
    def _lost(self) -> bool:
        connection = self.channel.connection
        return connection is None or connection.client is None


redis.Channel.QoS = _Unacknowledged


def broker_url(redis_url: str) -> str:
    """Return redis-py's URL as kombu writes it: unix sockets have another scheme there.

    Raises
    ------
    Unavailable
        No Redis is configured.
    """
    if not redis_url:
        raise Unavailable(
            Reason.JOB_STORE_UNAVAILABLE,
            "PALIMPSEST_REDIS_URL is not set; `palimpsest up` starts an embedded Valkey and sets it.",
        )
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    options = parts.query.replace("db=", "virtual_host=")
    return f"redis+socket://{parts.netloc}{parts.path}" + (f"?{options}" if options else "")


def create_app(settings: Settings, *, imports: Sequence[str] = ()) -> Celery:
    """Return the application that publishes hints and, with ``imports``, runs them.

    Parameters
    ----------
    settings
        Redis address and prefix, queues, worker concurrency.
    imports
        Modules a worker's children load, where the task is defined.
    """
    every = (*settings.queues, *settings.own_queues, *settings.standby_queues)
    app = Celery("palimpsest", set_as_current=False)
    app.conf.update(
        broker_url=broker_url(settings.redis_url),
        # Results live in the job record; nothing reads a Celery result.
        result_backend=None,
        task_ignore_result=True,
        imports=tuple(imports),
        # JSON only: a pickle in Redis would run code in every worker.
        task_serializer="json",
        accept_content=["json"],
        # Late acknowledgement, and again if the child died: a killed child's message comes back within seconds.
        # The record's attempts stop a job that kills its workers; Celery's own retries do not count crashes.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        # Reserve no messages behind a long job.
        worker_prefetch_multiplier=1,
        # One job per process: one owner of a CUDA context. Spawn, as neither CUDA nor gRPC survives a fork; the
        # other pools ignore time limits and lose tasks at shutdown.
        worker_pool="prefork",
        worker_pool_start_method="spawn",
        # A process for each queue: a claim lets no queue have more (see transitions.lua).
        worker_concurrency=settings.worker_concurrency
        * len({*settings.own_queues, *settings.standby_queues}),
        # A spawned child still imports torch after the default 4 s, and would be taken for dead again and again.
        worker_proc_alive_timeout=120,
        # A fresh process now and then, against fragmented GPU memory.
        worker_max_tasks_per_child=50,
        # True would terminate running tasks when Redis restarts and drop their messages; 6.0 changes the default.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # SIGTERM stops fetching at once and waits. Meanwhile the heartbeats tell the attempts to drain, and
        # services.worker ends the process if they do not. Celery's soft shutdown would sleep for its whole time first.
        worker_soft_shutdown_timeout=0,
        # Time limits are the record's (execution_timeout), enforced by the sweep and the attempt's heartbeat.
        task_time_limit=None,
        task_soft_time_limit=None,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A broker whose disk or memory is full answers with errors: wait for it as for one that is away.
        broker_channel_error_retry=True,
        # Publishing is bounded: a hint that does not get through is sent again by the reconciler.
        task_publish_retry=True,
        task_publish_retry_policy={
            "max_retries": 3,
            "interval_start": 0,
            "interval_step": 0.3,
            "interval_max": 1,
        },
        broker_transport_options={
            "global_keyprefix": f"{settings.redis_prefix}celery:",
            # The lease protects an attempt and refuses duplicates of its message, so this is only a second safety
            # net. It is swept every 5 s, as the default sweep takes up to 100 s longer.
            "visibility_timeout": 600,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            # Notice a Redis that vanished without closing the connection.
            "health_check_interval": 10,
            "socket_connect_timeout": 5,
            "socket_timeout": 10,
            "socket_keepalive": True,
        },
        # The record's index, not messages, holds delays: no ETA tasks. Events feed exporters.
        worker_send_task_events=True,
        task_send_sent_event=True,
        task_default_queue=settings.queue_for("cpu"),
        task_queues=[Queue(name) for name in dict.fromkeys(every)],
        task_create_missing_queues=True,
        # structlog is set up by services.worker.
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        enable_utc=True,
    )
    return app
