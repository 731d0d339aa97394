"""Drafts as they come along: a stream of updates that keeps every draft's present text, and the finished ones."""

from types import TracebackType
from typing import Self

from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.client.aio.streams import AsyncStream
from palimpsest.client.drafts import Draft, DraftBoard, DraftUpdate, Plan


class AsyncDrafting:
    """Updates of the drafts of one prompt. Closing it, leaving its ``with`` block or dropping it cancels the call.

    ::

        async with client.decoding.drafts(model="m", prompt="The page was", k=3) as drafting:
            async for update in drafting:
                print(update.slot, update.text)
        print(drafting.drafts[0].text, drafting.plan.strategy)

    Or, where only the end is wanted: ``await client.decoding.drafts(...).result()``.

    Raises
    ------
    PalimpsestError
        From iteration: what the server answered, or that it went away.
    """

    def __init__(self, events: AsyncStream[decoding_pb2.GenerateResponse]) -> None:
        self._events, self._board = events, DraftBoard()

    @property
    def texts(self) -> list[str]:
        """Every draft as it is now, by slot; what stands in one may be rewritten until the end."""
        return self._board.texts

    @property
    def drafts(self) -> list[Draft]:
        """The finished drafts, best first; all of them once the iteration has ended."""
        return self._board.drafts

    @property
    def plan(self) -> Plan | None:
        """What the server decided; None before the first update."""
        return self._board.plan

    @property
    def started(self) -> decoding_pb2.GenerateStarted | None:
        """The seed, and how much of the prompt there was; None before the first update."""
        return self._board.started

    @property
    def summary(self) -> decoding_pb2.DraftsFinished | None:
        """What it took; None before the end."""
        return self._board.summary

    async def result(self) -> list[Draft]:
        """Wait for the end; return the finished drafts, best first."""
        async with self:
            async for _ in self:
                pass
        return self.drafts

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DraftUpdate:
        while True:
            update = self._board.take(await anext(self._events))
            if update is not None:
                return update

    def close(self) -> None:
        """Cancel the call, if it is still going on; the server stops working on it."""
        self._events.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
