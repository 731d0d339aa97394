"""One suite for both clients: the blocking one runs in a thread, so that its tests read like the other's."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from palimpsest import AsyncClient, Client

_END = object()


class Twin:
    """A client of either kind, called the same way."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client: Any = client
        self.blocking = isinstance(client, Client)

    async def call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a method that answers once."""
        if self.blocking:
            return await asyncio.to_thread(method, *args, **kwargs)
        return await method(*args, **kwargs)

    async def each(self, messages: Iterable[Any] | AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Iterate over a stream or a job."""
        if not self.blocking:
            async for message in messages:
                yield message
            return
        iterator = iter(messages)
        while (message := await asyncio.to_thread(next, iterator, _END)) is not _END:
            yield message

    async def close(self) -> None:
        await self.call(self.client.close)
