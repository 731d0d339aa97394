"""Where asyncio and blocking code differ by more than a keyword: pauses, files, cancellation."""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

LOCALLY_CANCELLED: tuple[type[BaseException], ...] = ()
"""Blocking calls say CANCELLED in a status and raise nothing of their own."""


def pause(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def off_loop(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run work that blocks, such as reading a file."""
    return work(*args, **kwargs)


Running = threading.Thread
"""Work that goes on beside the caller's."""


def background(work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> Running:
    """Start work beside the caller's own; it has to end by itself."""
    thread = threading.Thread(target=work, args=args, kwargs=kwargs, name="palimpsest-client", daemon=True)
    thread.start()
    return thread


def dropped(running: Running) -> None:
    """Care no more what becomes of it; a thread ends by itself."""


def finished(running: Running) -> None:
    """Wait until it has ended, however it did."""
    running.join()


class Mailbox(Generic[T]):
    """Things handed over to one reader, from any thread, in order."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[T] = SimpleQueue()

    def put(self, item: T) -> None:
        """Hand over; never waits."""
        self._queue.put(item)

    def get(self) -> T:
        """Take the next, once there is one."""
        return self._queue.get()
