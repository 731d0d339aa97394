"""Waiting for changes of jobs: one subscription for a whole process, however many watchers there are."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator

import redis.asyncio
import redis.exceptions
import structlog

_log = structlog.get_logger(__name__)
_RECONNECT_SECONDS = 1.0


class Announcements:
    """Wakes listeners when the channel names their job.

    Announcements are lost while the connection is down; when it is back, every listener is woken.

    Parameters
    ----------
    client
        asyncio client; one connection of its pool subscribes.
    channel
        The channel on which transitions publish the ids of changed records.
    """

    def __init__(self, client: redis.asyncio.Redis, channel: str) -> None:
        self._client = client
        self._channel = channel
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def listen(self, job_id: str) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever the job changes, and sometimes when it did not."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._receive(), name="job announcements")
        event = asyncio.Event()
        self._listeners[job_id].add(event)
        try:
            yield event
        finally:
            self._listeners[job_id].discard(event)
            if not self._listeners[job_id]:
                del self._listeners[job_id]

    async def close(self) -> None:
        """Unsubscribe; listeners fall back on their slow timer."""
        while self._task is not None and not self._task.done():
            self._task.cancel()  # more than once: redis-py on Python 3.11 may swallow a cancellation
            await asyncio.wait([self._task], timeout=0.2)

    async def _receive(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as subscription:
                    await subscription.subscribe(self._channel)
                    async for message in subscription.listen():
                        if message["type"] == "subscribe":
                            self._wake_all()  # changes before this moment were missed
                        elif message["type"] == "message":
                            self._wake(message["data"])
            except (redis.exceptions.RedisError, OSError) as error:
                _log.warning("job announcements interrupted", error=str(error))
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _wake(self, job_id: bytes | str) -> None:
        name = job_id.decode() if isinstance(job_id, bytes) else job_id
        for event in self._listeners.get(name, ()):
            event.set()

    def _wake_all(self) -> None:
        for events in self._listeners.values():
            for event in events:
                event.set()
