"""Where asyncio and blocking code differ by more than a keyword: pauses, files, cancellation."""

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
    """Wait."""
    await asyncio.sleep(seconds)


async def off_loop(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run work that blocks, such as reading a file."""
    return await asyncio.to_thread(work, *args, **kwargs)


Running = asyncio.Task[None]
"""Work that goes on beside the caller's."""


def background(work: Callable[P, Coroutine[Any, Any, None]], *args: P.args, **kwargs: P.kwargs) -> Running:
    """Start work beside the caller's own; it has to end by itself."""
    return asyncio.create_task(work(*args, **kwargs))


def dropped(running: Running) -> None:
    """Care no more what becomes of it."""
    running.cancel()


async def finished(running: Running) -> None:
    """Wait until it has ended, however it did."""
    await asyncio.wait([running])


class Mailbox(Generic[T]):
    """Things handed over to one reader, from any thread, in order."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[T] = asyncio.Queue()

    def put(self, item: T) -> None:
        """Hand over; never waits."""
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    async def get(self) -> T:
        """Take the next, once there is one."""
        return await self._queue.get()
