"""What an interactive command waits for, said on standard error once it takes noticeably long."""

import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from rich.status import Status

from palimpsest.cli.output.printing import console, note, tells_progress

PATIENCE = 2.0
"""Seconds of silence before something is said."""
LOADING = "Waiting for the server, which may be loading the model"

T = TypeVar("T", bound=Any)


class Waiting:
    """Says what is waited for after some seconds: in a line that goes again on a terminal, once as a line elsewhere."""

    def __init__(self, what: str = LOADING) -> None:
        self._timer: threading.Timer | None = None
        self._shown: Status | None = None
        self._lock = threading.Lock()
        self._what = what

    def __enter__(self) -> Self:
        self.now(self._what)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over()

    def now(self, what: str) -> None:
        """Wait for something else from now on."""
        self.over()
        self._timer = threading.Timer(PATIENCE, self._tell, [what])
        self._timer.daemon = True
        self._timer.start()

    def over(self) -> None:
        """Wait no more; whatever is shown goes away."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            if self._shown is not None:
                self._shown.stop()
            self._timer = self._shown = None

    def _tell(self, what: str) -> None:
        with self._lock:
            if self._timer is None:  # over, between its last instant and the lock
                return
            out = console(stderr=True)
            if out.is_terminal:
                self._shown = Status(f"{what}…", console=out)
                self._shown.start()
            elif tells_progress():
                note(f"{what}…")


def announced(events: Iterable[T]) -> Iterator[T]:
    """Yield a generation's events; until its first text, say what is waited for.

    Before the event ``started`` that is a model being loaded, after it the prompt being read.
    """
    with Waiting() as waiting:
        for event in events:
            kind = event.WhichOneof("event")
            if kind == "started":
                tokens = event.started.prompt_tokens - event.started.cached_tokens
                waiting.now(f"Reading a prompt of {tokens} tokens")
            elif kind != "context":
                waiting.over()
            yield event
