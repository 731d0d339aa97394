"""The blocking job store: every transition of a job, for workers, tools and tests."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import redis
from google.protobuf.message import Message

from palimpsest.errors import PalimpsestError
from palimpsest.jobs import transitions
from palimpsest.jobs.listing import Page, parse_query
from palimpsest.jobs.record import JobRecord, Partial
from palimpsest.jobs.replies import Beat, Call, Claim, Stats, Sweep, not_found, script
from palimpsest.jobs.submission import JobSpec
from palimpsest.redis import aof_missing, not_durable, translated, unbounded
from palimpsest.settings import Settings

T = TypeVar("T")
AOF_TIMEOUT_MS = 5000
_NOTE = "for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1], 'EX', ARGV[2]) end"
"""ARGV: the value of every key, and seconds until they expire."""


class JobStore:
    """Job records in Redis or Valkey 7.0 or newer.

    Every method raises Unavailable (JOB_STORE_UNAVAILABLE) if Redis does not answer. Methods that add to the store
    raise ResourceExhausted (JOB_STORE_FULL) if it is full, and then nothing has been written.

    Parameters
    ----------
    client
        Blocking client; may be shared between threads.
    settings
        Key prefix, lease, retention and limits.
    announce
        Called with (job id, queue) after a submit or retry, to wake a worker; without it the reconciler does.
    clock
        Milliseconds since 1970, in place of Redis's clock; for tests only.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        *,
        announce: Callable[[str, str], None] | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.redis = client
        self.settings = settings
        self.prefix = settings.redis_prefix
        self._announce = announce
        self._clock = clock
        self._scripts: dict[bool, Any] = {}
        self._note = unbounded(client, _NOTE)
        self._aof = True

    def submit(self, spec: JobSpec) -> JobRecord:
        """Record a job durably; the same request or action returns the job it already has.

        Raises
        ------
        InvalidArgument
            REQUEST_ID_REUSED, JOB_TOO_LARGE, or the spec is malformed.
        ResourceExhausted
            JOB_QUEUE_FULL: too many jobs wait.
        NotFound
            An input is being deleted.
        """
        return self._wake(self._run(transitions.submit(spec, self.settings)))

    def get(self, job_id: str) -> JobRecord:
        """Return the record, or raise NotFound."""
        with translated():
            fields: Any = self.redis.hgetall(f"{self.prefix}job:{job_id}")
        if not fields:
            raise not_found(job_id)
        return JobRecord.parse(fields)

    def list(
        self, filter_text: str = "", page_size: int = 0, page_token: str = "", principal: str | None = None
    ) -> Page:
        """Return one page, newest first, of one principal's jobs or (None) of all; see ``listing.parse_query``."""
        return self._run(transitions.list_page(parse_query(filter_text, page_size, page_token, principal)))

    def cancel(self, job_id: str) -> JobRecord:
        """End a queued job at once, ask a running one to stop; NotFound if there is no such job."""
        return self._run(transitions.cancel(job_id))

    def delete(self, job_id: str) -> None:
        """Forget a finished job; FailedPrecondition if it is not finished, NotFound if there is none."""
        self._run(transitions.delete(job_id))

    def retry(self, job_id: str, request_id: str = "", principal: str = "") -> JobRecord:
        """Queue a FAILED or CANCELLED job again; FailedPrecondition for any other."""
        return self._wake(self._run(transitions.retry(job_id, request_id, principal, self.settings)))

    def claim(
        self,
        job_id: str,
        owner: str,
        worker: str,
        standby: Sequence[str] = (),
        *,
        fair: bool = False,
        lane: int | None = None,
    ) -> JobRecord | None:
        """Take a queued job for one attempt named by a unique owner; None if it cannot be claimed.

        With ``fair`` it is the job of the same queue whose turn it is: callers take turns, each with its oldest job.
        With ``lane`` the worker runs no more jobs of one queue at once.
        """
        return self._run(
            transitions.claim(job_id, owner, worker, self.settings, standby, fair=fair, lane=lane)
        )

    def heartbeat(self, run: Claim, progress: Mapping[str, object] | None = None) -> Beat:
        """Renew an attempt's lease, store its progress, and learn of a cancellation or a drain."""
        return self._run(transitions.heartbeat(run, progress, self.settings))

    def checkpoint(self, run: Claim, state: Mapping[str, object]) -> bool:
        """Store a checkpoint; False if the lease is lost."""
        return self._run(transitions.checkpoint(run, state))

    def publish(self, run: Claim, digest: str) -> bool:
        """Let the job refer to an artefact; False if the lease is lost; NotFound if it is being deleted."""
        return self._run(transitions.publish(run, digest))

    def add_partial(self, run: Claim, message: Message, number: int) -> bool:
        """Append an attempt's partial result of a number; False if the lease is lost."""
        return self._run(transitions.add_partial(run, message, number))

    def partials(self, job_id: str, since: int = 0) -> "list[Partial]":
        """Return the partial results after a sequence number, oldest first; see ``JobMetadata.partials``."""
        return self._run(transitions.partials(job_id, since))

    def succeed(self, run: Claim, response_type: str, response: str, progress: Mapping[str, object]) -> bool:
        """End an attempt with its result; False if the lease is lost."""
        return self._run(transitions.succeed(run, response_type, response, progress))

    def fail(self, run: Claim, error: PalimpsestError) -> bool:
        """End an attempt with an error (JOB_CANCELLED: as cancelled); False if the lease is lost."""
        return self._run(transitions.fail(run, error))

    def release(self, run: Claim, delay: float = 0.0) -> bool:
        """Return the job to its queue, for ``delay`` seconds at least, without counting the attempt.

        False if the lease is lost.
        """
        return self._run(transitions.release(run, delay))

    def defer(self, job_id: str, delay: float) -> JobRecord | None:
        """Let a job that waits be claimed in ``delay`` seconds and not before; None if it runs or has ended.

        NotFound if there is no such job.
        """
        return self._run(transitions.defer(job_id, delay))

    def sweep(self, *, lapse: bool = True) -> Sweep:
        """Do what is due; see ``Reconciler``."""
        return self._run(transitions.sweep(lapse=lapse))

    def stats(self, queues: Sequence[str]) -> Stats:
        """Count the jobs that wait, run and have ended."""
        return self._run(transitions.stats(queues))

    def beat(self, worker: str, seconds: float, own: Sequence[str] = (), standby: Sequence[str] = ()) -> None:
        """Note that a worker is alive and which queues it serves; the notes expire after seconds unless renewed.

        Parameters
        ----------
        worker
            Its name, ``"host:process:random"``.
        seconds
            How long the notes last.
        own, standby
            Queues the worker serves as its own, and those it serves now because no worker has them as its own.
        """
        names = [f"worker:{worker}", *(f"queue:{queue}:own" for queue in own)]
        names += [f"queue:{queue}:standby" for queue in standby]
        with translated():
            self._note(keys=[self.prefix + name for name in names], args=[worker, max(1, round(seconds))])

    def owned(self, queues: Sequence[str]) -> "set[str]":
        """Return the queues that a live worker serves as its own."""
        with translated():
            return {queue for queue in queues if self.redis.exists(f"{self.prefix}queue:{queue}:own")}

    def workers(self, host: str = "") -> "list[str]":
        """Return the names of live workers, of one host or of all."""
        prefix = f"{self.prefix}worker:"
        pattern = prefix + (f"{host}:*" if host else "*")
        with translated():
            return sorted(
                key.decode().removeprefix(prefix) for key in self.redis.scan_iter(pattern, count=1000)
            )

    def drain(self, worker: str) -> None:
        """Let a worker's attempts leave with their next heartbeat; it can claim no more jobs."""
        with translated():
            self._note(keys=[f"{self.prefix}drain:{worker}"], args=["1", 3600])

    def _wake(self, record: JobRecord) -> JobRecord:
        if self._announce is not None and record.state == "QUEUED":
            self._announce(record.id, record.queue)
        return record

    def _run(self, call: Call[T]) -> T:
        arguments = dict(call.arguments)
        if self._clock is not None:
            arguments["now"] = self._clock()
        args = (self.prefix, call.transition, json.dumps(arguments, ensure_ascii=False))
        with translated():
            reply = self._durably(call, args) if call.durable and self._aof else self._plainly(call, args)
        return call.read(reply)

    def _plainly(self, call: Call[Any], args: tuple[str, str, str]) -> Any:
        if call.grows not in self._scripts:
            self._scripts[call.grows] = self.redis.register_script(script(call.grows))
        return self._scripts[call.grows](keys=args[:1], args=args[1:])

    def _durably(self, call: Call[Any], args: tuple[str, str, str]) -> Any:
        """Run the script and wait until the append-only file has it, on one connection as WAITAOF demands."""
        text = script(call.grows)
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.eval(text, 1, *args)
            pipe.execute_command("WAITAOF", 1, 0, AOF_TIMEOUT_MS)
            reply, acknowledged = pipe.execute(raise_on_error=False)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(acknowledged, Exception):
            if not aof_missing(acknowledged):
                raise acknowledged
            self._aof = False
        elif (error := not_durable(acknowledged)) is not None:
            raise error
        return reply
