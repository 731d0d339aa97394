"""Events on their way from the engine's thread to one client's stream; the engine never waits."""

import asyncio
import threading
from collections.abc import Sequence

from palimpsest.decoding.quoting import Span
from palimpsest.engine import Delta, Event, Failed, Started
from palimpsest.engine.events import Ended

MERGED_TOKENS = 256
"""Maximum number of tokens in a merged delta, so that its message stays small."""


class Outbox:
    """Events of one request that wait to be sent.

    A client that reads slowly gets fewer, longer deltas: waiting deltas are merged per sequence, so the outbox holds no
    more than the request's own tokens, with one entry for each 256 of them.

    Parameters
    ----------
    whole
        Nobody watches: after the beginning, what has been delivered is taken when a sequence ends, which spares a
        message for each token.
    """

    def __init__(self, whole: bool = False) -> None:
        self._whole = whole
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._lock = threading.Lock()
        self._events: list[Event] = []
        # Calls of deliver: made, taken out, and sent on to the client.
        self._made = self._out = self._sent = 0
        self._progress = asyncio.Condition()

    def deliver(self, events: Sequence[Event]) -> None:
        """Add the events of one step. Called on the engine's thread."""
        with self._lock:
            ready = not self._events
            if self._whole:
                ready = any(isinstance(event, Started | Ended | Failed) for event in events)
            self._made += 1
            for event in events:
                self._add(event)
        if ready and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._filled.set)

    def _add(self, event: Event) -> None:
        if isinstance(event, Delta):
            # Not past a span, which follows the delta with its last text.
            for n in range(len(self._events) - 1, -1, -1):
                last = self._events[n]
                if isinstance(last, Span) and last.index == event.index:
                    break
                if isinstance(last, Delta) and last.index == event.index:
                    if len(last.token_ids) < MERGED_TOKENS:
                        self._events[n] = Delta(
                            event.index,
                            last.text + event.text,
                            last.token_ids + event.token_ids,
                            last.choices + event.choices,
                        )
                        return
                    break
        self._events.append(event)

    async def take(self) -> list[Event]:
        """All waiting events; waits for the first. The next call counts those of this one as sent."""
        async with self._progress:
            self._sent = self._out
            self._progress.notify_all()
        await self._filled.wait()
        with self._lock:
            self._filled.clear()
            events, self._events, self._out = self._events, [], self._made
        return events

    async def flushed(self) -> None:
        """Wait until everything delivered up to now has been sent."""
        made = self._made
        async with self._progress:
            await self._progress.wait_for(lambda: self._sent >= made)
