"""Streams whose caller lets the server wait: noticed by one timer for each, and ended."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from palimpsest.errors import Aborted, Reason


class Idleness:
    """How long one stream has been waiting for its caller.

    The server waits while it reads the next message. It does not wait while it works or sends, or while it has nothing
    to say: a job that is watched, a generation in the queue. Used on the event loop.

    Parameters
    ----------
    seconds
        The caller's longest silence; 0 for no limit.
    give_up
        Called once with the error that ends the stream.
    """

    def __init__(self, seconds: float, give_up: Callable[[Aborted], None]) -> None:
        self._seconds, self._give_up = seconds, give_up
        self._loop = asyncio.get_running_loop()
        self._waits = self._works = 0
        self._moved = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._look) if seconds else None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The server waits for the caller's next message."""
        self._waits += 1
        self._moved = self._loop.time()
        try:
            yield
        finally:
            self._waits -= 1
            self._moved = self._loop.time()

    @contextmanager
    def working(self) -> Iterator[None]:
        """The server works on what it has received, or sends, although it reads on."""
        self._works += 1
        try:
            yield
        finally:
            self._works -= 1
            self._moved = self._loop.time()

    def stop(self) -> None:
        """Look no more: the stream has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        left = self._moved + self._seconds - self._loop.time()
        waits = self._waits and not self._works
        if waits and left <= 0:
            self._give_up(_idle(self._seconds))
        else:
            self._timer = self._loop.call_later(left if left > 0 else self._seconds, self._look)


def _idle(seconds: float) -> Aborted:
    return Aborted(
        Reason.STREAM_IDLE,
        f"The server waited {seconds:g} s for the next message of this stream, and ended it. What was acknowledged is "
        "kept. Open the stream again when there is something to send: an upload goes on from the committed_size of "
        "QueryWriteStatus, anything else from what was acknowledged last.",
        metadata={"idle_seconds": seconds},
        retry_after=0.1,
    )
