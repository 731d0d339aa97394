"""The primitives in which asyncio and blocking code differ by more than a keyword; written by hand for each.

Pauses, work off the event loop, background tasks, a queue, local cancellation. Everything else in
``client/blocking`` is generated from ``client/aio``.
"""

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

LOCALLY_CANCELLED: tuple[type[BaseException], ...] = ()
"""Blocking calls report CANCELLED in a status and raise no exception of their own."""


def pause(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def off_loop(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run blocking work, such as reading a file."""
    return work(*args, **kwargs)


Background = threading.Thread
"""Work that runs beside the caller's."""


def background(work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> Background:
    """Start work beside the caller's own. It has to end by itself: a thread cannot be stopped."""
    thread = threading.Thread(target=work, args=args, kwargs=kwargs, name="palimpsest-client", daemon=True)
    thread.start()
    return thread


def abandon(task: Background) -> None:
    """Ignore its result; a thread ends by itself."""


def join(task: Background) -> None:
    """Wait until the work has ended, whether or not it failed."""
    task.join()


class Mailbox(Generic[T]):
    """A queue to one reader, from any thread, in order."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[T] = SimpleQueue()

    def put(self, item: T) -> None:
        """Append an item; never blocks."""
        self._queue.put(item)

    def get(self, timeout: float | None = None) -> T:
        """Remove and return the next item, once there is one.

        Raises
        ------
        TimeoutError
            There was none for ``timeout`` seconds.
        """
        try:
            return self._queue.get(timeout=None if timeout is None else max(0.0, timeout))
        except Empty:
            raise TimeoutError from None
