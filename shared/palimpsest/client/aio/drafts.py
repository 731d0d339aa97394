"""A stream of draft updates that keeps every draft's present text, and the finished drafts."""

from types import TracebackType
from typing import Self

from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.client.aio.streams import AsyncStream
from palimpsest.client.drafts import DraftBoard, Drafts, DraftUpdate, Plan


class AsyncDrafting:
    """Updates of the drafts of one prompt. Closing or dropping it, or leaving its ``with`` block, cancels the call.

    ::

        async with client.decoding.drafts(model="m", prompt="The page was", k=3) as drafting:
            async for update in drafting:
                print(update.slot, update.text)
        print(drafting.drafts[0].text, drafting.plan.strategy)

    For the finished drafts alone: ``await client.decoding.drafts(...).result()``.

    Raises
    ------
    PalimpsestError
        From iteration: the server's error, or a lost connection.
    """

    def __init__(self, events: AsyncStream[decoding_pb2.DraftResponse]) -> None:
        self._events, self._board = events, DraftBoard()

    @property
    def texts(self) -> list[str]:
        """Every draft as it is now, by slot; a slot's text may be rewritten until the end."""
        return self._board.texts

    @property
    def drafts(self) -> Drafts:
        """The finished drafts, best first; all of them once the iteration has ended."""
        return self._board.drafts

    @property
    def plan(self) -> Plan | None:
        """What the server decided; None before the first update."""
        return self._board.plan

    @property
    def started(self) -> decoding_pb2.GenerateStarted | None:
        """The seed, and the number of prompt tokens; None before the first update."""
        return self._board.started

    @property
    def summary(self) -> decoding_pb2.DraftsFinished | None:
        """Counts and times of the whole call; None before the end."""
        return self._board.summary

    async def result(self) -> Drafts:
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
        """Cancel the call if it is still running; the server stops its work."""
        self._events.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
