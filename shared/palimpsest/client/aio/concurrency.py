"""The primitives in which asyncio and blocking code differ by more than a keyword; written by hand for each.

Pauses, work off the event loop, background tasks, a queue, local cancellation. Everything else in
``client/blocking`` is generated from ``client/aio``.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

LOCALLY_CANCELLED: tuple[type[BaseException], ...] = (asyncio.CancelledError,)
"""What a gRPC call raises here when this side cancelled it."""


async def pause(seconds: float) -> None:
    """Sleep."""
    await asyncio.sleep(seconds)


async def off_loop(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run blocking work, such as reading a file, without holding up the event loop."""
    return await asyncio.to_thread(work, *args, **kwargs)


Background = asyncio.Task[None]
"""Work that runs beside the caller's."""


def background(work: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs) -> Background:
    """Start work beside the caller's own. It has to end by itself: a thread cannot be stopped."""
    return asyncio.create_task(work(*args, **kwargs))


def abandon(task: Background) -> None:
    """Cancel the task and ignore its result."""
    task.cancel()


async def join(task: Background) -> None:
    """Wait until the work has ended, whether or not it failed."""
    await asyncio.wait([task])


class Mailbox(Generic[T]):
    """A queue to one reader, from any thread, in order."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[T] = asyncio.Queue()

    def put(self, item: T) -> None:
        """Append an item; never blocks."""
        with suppress(RuntimeError):  # the loop is closed: there is no reader left
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    async def get(self, timeout: float | None = None) -> T:
        """Remove and return the next item, once there is one.

        Raises
        ------
        TimeoutError
            There was none for ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            return await self._queue.get()
