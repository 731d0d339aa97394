"""The asyncio job store: what servers use, with watching instead of polling."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import redis.asyncio

from palimpsest.jobs import transitions
from palimpsest.jobs.announcements import Announcements
from palimpsest.jobs.hints import Hints
from palimpsest.jobs.listing import Page, parse_query
from palimpsest.jobs.record import JobRecord, Partial
from palimpsest.jobs.replies import Call, Sweep, not_found, script
from palimpsest.jobs.store import AOF_TIMEOUT_MS
from palimpsest.jobs.submission import JobSpec
from palimpsest.redis import aof_missing, not_durable, translated
from palimpsest.settings import Settings

T = TypeVar("T")
_SLOW_TIMER = 5.0
"""Seconds after which a watcher reads the record again, announced or not: announcements may be lost."""


@contextlib.contextmanager
def _awaited() -> Iterator[None]:
    """Translate Redis's errors, and raise a cancellation that redis-py swallowed.

    redis-py sends through ``asyncio.wait_for``, which before Python 3.12 swallows a cancellation that arrives as
    the sending ends. A watcher whose caller has left would then never end.
    """
    with translated():
        yield
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class AsyncJobStore:
    """Twin of ``JobStore`` for servers: the same records, transitions and errors.

    Parameters
    ----------
    client
        asyncio client; one further connection of its pool is held while anyone watches.
    settings
        Key prefix, limits and broker.
    announce
        Called with (job id, queue) to wake a worker; must not block. None: a Celery message from a thread.
    clock
        Milliseconds since 1970, in place of Redis's clock; for tests only.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        settings: Settings,
        *,
        announce: Callable[[str, str], None] | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.redis = client
        self.settings = settings
        self.prefix = settings.redis_prefix
        self._hints = Hints(settings) if announce is None else None
        self.announce: Callable[[str, str], None] = self._hints or announce  # type: ignore[assignment]
        self._announcements = Announcements(client, f"{self.prefix}jobs:events")
        self._clock = clock
        self._scripts: dict[bool, Any] = {}
        self._aof = True

    async def submit(self, spec: JobSpec) -> JobRecord:
        """Record a job durably and wake a worker; see ``JobStore.submit``."""
        return self._wake(await self._run(transitions.submit(spec, self.settings)))

    async def get(self, job_id: str) -> JobRecord:
        """Return the record, or raise NotFound."""
        with _awaited():
            fields: Any = await self.redis.hgetall(f"{self.prefix}job:{job_id}")  # type: ignore[misc]
        if not fields:
            raise not_found(job_id)
        return JobRecord.parse(fields)

    async def list(
        self, filter_text: str = "", page_size: int = 0, page_token: str = "", principal: str | None = None
    ) -> Page:
        """Return one page, newest first, of one principal's jobs or (None) of all; see ``listing.parse_query``."""
        return await self._run(
            transitions.list_page(parse_query(filter_text, page_size, page_token, principal))
        )

    async def cancel(self, job_id: str) -> JobRecord:
        """End a queued job at once, ask a running one to stop; NotFound if there is no such job."""
        return await self._run(transitions.cancel(job_id))

    async def defer(self, job_id: str, delay: float) -> JobRecord | None:
        """Let a job that waits be claimed in ``delay`` seconds and not before; see ``JobStore.defer``."""
        record = await self._run(transitions.defer(job_id, delay))
        return self._wake(record) if record is not None and not delay else record

    async def delete(self, job_id: str) -> None:
        """Forget a finished job; FailedPrecondition if it is not finished, NotFound if there is none."""
        await self._run(transitions.delete(job_id))

    async def retry(self, job_id: str, request_id: str = "", principal: str = "") -> JobRecord:
        """Queue a FAILED or CANCELLED job again; FailedPrecondition for any other."""
        return self._wake(await self._run(transitions.retry(job_id, request_id, principal, self.settings)))

    async def sweep(self, *, lapse: bool = True) -> Sweep:
        """Do what is due; see ``Reconciler``."""
        return await self._run(transitions.sweep(lapse=lapse))

    async def partials(self, job_id: str, since: int = 0) -> "list[Partial]":
        """Return the partial results after a sequence number, oldest first; see ``JobMetadata.partials``."""
        return await self._run(transitions.partials(job_id, since))

    async def served(self, queue: str) -> bool:
        """Return whether a live worker takes jobs from a queue."""
        keys = [f"{self.prefix}queue:{queue}:{role}" for role in ("own", "standby")]
        with _awaited():
            return bool(await self.redis.exists(*keys))

    async def ahead(self, record: JobRecord) -> int:
        """Return how many jobs of a queued job's queue run, or have waited for longer."""
        key = f"{self.prefix}jobs:index:queue:{record.queue}"
        with _awaited():
            running = await self.redis.zcard(f"{key}:RUNNING")
            return running + await self.redis.zcount(f"{key}:QUEUED", "-inf", f"({record.seq}")

    async def watch(
        self, job_id: str, since: int = 0, since_partial: int | None = None
    ) -> AsyncIterator[JobRecord]:
        """Yield the record once its revision is later than ``since``, and again whenever it changes, to the end.

        Changes close together may come as one. Ends after the terminal state. A record with partial results after
        number ``since_partial`` is yielded whatever its revision.

        Raises
        ------
        NotFound
            No such job, or it was deleted meanwhile.
        """
        with self._announcements.listen(job_id) as changed:
            while True:
                changed.clear()  # before reading: what changes after the read sets it again
                record = await self.get(job_id)
                unseen = since_partial is not None and record.partials > since_partial
                if record.revision > since or unseen:
                    since = record.revision
                    since_partial = record.partials if unseen else since_partial
                    yield record
                if record.terminal:
                    return
                await _set_within(changed, _SLOW_TIMER)

    async def wait(self, job_id: str, timeout: float) -> JobRecord:
        """Return the record when the job is done or ``timeout`` seconds have passed, whichever is first."""
        deadline = time.monotonic() + timeout
        with self._announcements.listen(job_id) as changed:
            while True:
                changed.clear()
                record = await self.get(job_id)
                remaining = deadline - time.monotonic()
                if record.terminal or remaining <= 0:
                    return record
                await _set_within(changed, min(remaining, _SLOW_TIMER))

    async def close(self) -> None:
        """End watching and stop waking workers; the client stays open."""
        await self._announcements.close()
        if self._hints is not None:
            self._hints.close()

    def _wake(self, record: JobRecord) -> JobRecord:
        if record.state == "QUEUED":
            self.announce(record.id, record.queue)
        return record

    async def _run(self, call: Call[T]) -> T:
        arguments = dict(call.arguments)
        if self._clock is not None:
            arguments["now"] = self._clock()
        args = (self.prefix, call.transition, json.dumps(arguments, ensure_ascii=False))
        with _awaited():
            durable = call.durable and self._aof
            reply = await (self._durably(call, args) if durable else self._plainly(call, args))
        return call.read(reply)

    async def _plainly(self, call: Call[Any], args: tuple[str, str, str]) -> Any:
        if call.grows not in self._scripts:
            self._scripts[call.grows] = self.redis.register_script(script(call.grows))
        return await self._scripts[call.grows](keys=args[:1], args=args[1:])

    async def _durably(self, call: Call[Any], args: tuple[str, str, str]) -> Any:
        """Run the script and wait until the append-only file has it, on one connection as WAITAOF demands."""
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.eval(script(call.grows), 1, *args)  # type: ignore[arg-type]
            pipe.execute_command("WAITAOF", 1, 0, AOF_TIMEOUT_MS)
            reply, acknowledged = await pipe.execute(raise_on_error=False)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(acknowledged, Exception):
            if not aof_missing(acknowledged):
                raise acknowledged
            self._aof = False
        elif (error := not_durable(acknowledged)) is not None:
            raise error
        return reply
