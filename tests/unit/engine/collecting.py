"""Running requests through an engine and waiting for all of their events."""

import threading
from collections.abc import Sequence

from palimpsest.engine import Delta, Engine, Event, Failed, Finished, Request, Started
from palimpsest.engine.events import Ended


class Collector:
    """Events of one request."""

    def __init__(self, n: int = 1) -> None:
        self.events: list[Event] = []
        self._left = n
        self._done = threading.Event()

    def deliver(self, events: Sequence[Event]) -> None:
        self.events += events
        self._left -= sum(isinstance(e, Ended) for e in events)
        if self._left == 0 or any(isinstance(e, Failed) for e in events):
            self._done.set()

    def wait(self) -> "Collector":
        assert self._done.wait(60), self.events
        return self

    @property
    def error(self):
        return next((e.error for e in self.events if isinstance(e, Failed)), None)

    @property
    def started(self) -> Started:
        return next(e for e in self.events if isinstance(e, Started))

    def finished(self, index: int = 0) -> Finished:
        return next(e for e in self.events if isinstance(e, Finished) and e.index == index)

    def deltas(self, index: int = 0) -> list[Delta]:
        return [e for e in self.events if isinstance(e, Delta) and e.index == index]

    def ids(self, index: int = 0) -> list[int]:
        return [t for d in self.deltas(index) for t in d.token_ids]

    def text(self, index: int = 0) -> str:
        return "".join(d.text for d in self.deltas(index))


def run(engine: Engine, *requests: Request) -> list[Collector]:
    """Submit all at once and wait for all."""
    collectors = [Collector(request.n) for request in requests]
    for request, collector in zip(requests, collectors, strict=True):
        engine.submit(request, collector.deliver)
    return [collector.wait() for collector in collectors]


class Gate:
    """Stops an engine inside a step, so that a test knows what is queued."""

    def __init__(self, engine: Engine) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self._forward = engine.model.forward
        engine.model.forward = self

    def __call__(self, rows, hidden=()):
        self.entered.set()
        assert self.open.wait(60)
        return self._forward(rows, hidden)


class Steps:
    """Holds every step of an engine until the test lets it end."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._forward = engine, engine.model.forward
        self._entered, self._allowed = threading.Semaphore(0), threading.Semaphore(0)
        engine.model.forward = self

    def __call__(self, rows, hidden=()):
        self._entered.release()
        assert self._allowed.acquire(timeout=60)
        return self._forward(rows, hidden)

    def wait_for_one(self) -> None:
        assert self._entered.acquire(timeout=60)

    def let_one_end(self) -> None:
        self._allowed.release()

    def let_all_end(self) -> None:
        """Let the step that is held end, and hold no other."""
        self._engine.model.forward = self._forward
        self._allowed.release()


def sleeps(engine: Engine) -> bool:
    """Whether the engine waits to be woken, as it does when there is nothing it can do."""
    return bool(engine._lock._waiters)
