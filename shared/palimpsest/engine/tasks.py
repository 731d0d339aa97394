"""Work that the engine does between steps, a little at a time: scoring, prefilling to store, measuring."""

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from palimpsest.engine.budget import CacheBudget
from palimpsest.errors import PalimpsestError

T = TypeVar("T")

TaskSteps = Generator["Future[Any] | None", None, T]
"""Work that gives control back after each of its steps, and returns its result at the end.

It yields None, or a future it cannot go on without: the engine does other things, or sleeps, until that is done.
"""


class CallerError(Exception):
    """Wraps an error of a caller's code, which fails only its own task."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Task(Generic[T]):
    """One task and the future its owner holds.

    Parameters
    ----------
    steps
        The work; closed if the owner cancels the future.
    blocks
        Cache memory it may need, in blocks.
    """

    def __init__(self, steps: TaskSteps[T], blocks: int) -> None:
        self.blocks = blocks
        self.admitted = False
        self.future: Future[T] = Future()
        self._steps = steps
        self._waits_for: Future[Any] | None = None
        self._result: T | None = None
        self._error: Exception | None = None

    @property
    def ready(self) -> bool:
        """Whether there is something to do now."""
        return self.future.cancelled() or self._waits_for is None or self._waits_for.done()

    def advance(self, wake: Callable[[], None]) -> bool:
        """Do the next step; returns whether it was the last. ``wake`` is called once a wait is over."""
        if self.future.cancelled():
            self._steps.close()
            return True
        try:
            self._waits_for = next(self._steps)
        except StopIteration as end:
            self._result = end.value
            return True
        except PalimpsestError as error:
            self._error = error
            return True
        except CallerError as wrapped:
            self._error = wrapped.error
            return True
        if self._waits_for is not None:
            self._waits_for.add_done_callback(lambda _: wake())
        return False

    def settle(self, error: Exception | None = None) -> None:
        """Set the future's result or error, unless its owner has cancelled it."""
        error = error or self._error
        if not self.future.set_running_or_notify_cancel():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self._result)  # type: ignore[arg-type]


class Tasks:
    """Tasks in order of arrival; the first that can go on does. Only :meth:`add` may be called from any thread.

    Parameters
    ----------
    budget
        Cache memory, shared with the requests.
    wake
        Wakes the engine.
    """

    def __init__(self, budget: CacheBudget, wake: Callable[[], None]) -> None:
        self._budget, self._wake = budget, wake
        self._lock = threading.Lock()
        self._tasks: deque[Task[Any]] = deque()

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def wanted(self) -> int:
        """Blocks that the first task without memory needs; 0: none waits for memory."""
        return next((task.blocks for task in list(self._tasks) if not task.admitted), 0)

    def add(self, task: Task[Any]) -> None:
        """Queue a task."""
        with self._lock:
            self._tasks.append(task)
        task.future.add_done_callback(lambda _: self._wake())

    def advance(self) -> bool:
        """Do a step of the first task that can go on; returns whether there was one.

        Memory is given in order of arrival: a task that does not fit yet holds up those behind it.
        """
        for task in list(self._tasks):
            if not task.admitted:
                if not self._budget.take(task.blocks):
                    return False
                task.admitted = True
            if not task.ready:
                continue
            if task.advance(self._wake):
                self._budget.give(task.blocks)
                with self._lock:
                    self._tasks.remove(task)
                task.settle()
            return True
        return False

    def end(self, error: PalimpsestError) -> None:
        """Fail the tasks that are left."""
        with self._lock:
            tasks, self._tasks = list(self._tasks), deque()
        for task in tasks:
            task.settle(error)
