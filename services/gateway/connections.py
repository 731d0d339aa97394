"""Answers that end when their caller leaves: work is cancelled, and with it the calls to the rooms.

Also while nothing is sent: a prompt may be read for minutes, and a caller that has left should not keep the engine.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from palimpsest.errors import PalimpsestError
from services.gateway.errors import ApiError, from_rooms
from services.gateway.json_text import dumps

_log = structlog.get_logger(__name__)
T = TypeVar("T")


async def _left(receive: Receive) -> None:
    """Return once the caller has closed the connection; its body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first(work: "asyncio.Task[T]", leaving: "asyncio.Task[None]") -> T:
    """The work's result, unless the caller leaves before."""
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        for task in (work, leaving):
            task.cancel()
        await asyncio.gather(work, leaving, return_exceptions=True)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await work for as long as the caller is there.

    Raises
    ------
    ClientDisconnect
        It has left, and the work was cancelled.
    """
    return await _first(asyncio.create_task(work), asyncio.create_task(_left(request.receive)))


class EventStream:
    """Server-sent events, each a JSON object; the last is ``[DONE]``.

    The first one is awaited before the answer begins, so that what is wrong with the request is an answer with a status
    of its own. Later errors are an event. Nothing is taken from the source before the caller's connection has room.

    Parameters
    ----------
    events
        Closed at the end, however that comes.
    """

    def __init__(self, events: AsyncGenerator[dict[str, Any], None]) -> None:
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await _first(asyncio.create_task(self._send(send)), asyncio.create_task(_left(receive)))
        except ClientDisconnect:
            _log.info("caller left a stream", path=scope["path"])
        finally:
            await self._events.aclose()

    async def _send(self, send: Send) -> None:
        event = await anext(self._events, None)
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            while event is not None:
                await _send_text(send, dumps(event))
                event = await anext(self._events, None)
            await _send_text(send, "[DONE]")
        except ApiError as error:
            await _send_text(send, dumps(error.body))
        except PalimpsestError as error:
            await _send_text(send, dumps(from_rooms(error).body))
        except Exception as error:
            _log.error("bug", exc_info=error)
            await _send_text(send, dumps(ApiError(500, "The gateway failed; its log has the details.").body))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_text(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True})


async def all_of(works: Sequence[Coroutine[Any, Any, T]], at_once: int) -> list[T]:
    """Results of all works, in order, so many at once; the first failure cancels the others and is raised."""
    places = asyncio.Semaphore(at_once)

    async def placed(work: Coroutine[Any, Any, T]) -> T:
        async with places:
            return await work

    tasks = [asyncio.create_task(placed(work)) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for work in works:
            work.close()  # those that never began


async def merged(sources: Sequence[AsyncGenerator[T, None]], at_once: int) -> AsyncGenerator[T, None]:
    """What several sources give, as it comes, so many sources at once; the first failure ends all."""
    queue: asyncio.Queue[T | BaseException | None] = asyncio.Queue(maxsize=2)
    places = asyncio.Semaphore(at_once)

    async def drain(source: AsyncGenerator[T, None]) -> None:
        try:
            async with places, aclosing(source):
                async for item in source:
                    await queue.put(item)
            await queue.put(None)
        except Exception as error:
            await queue.put(error)

    tasks = [asyncio.create_task(drain(source)) for source in sources]
    left = len(tasks)
    try:
        while left:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
