"""A load on the terminal: one cell for each chunk, coloured by its level; also while the load runs."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.text import Text

from palimpsest.cli.output import printing as output
from palimpsest.cli.output.quantities import show_rate, show_seconds
from palimpsest.client.loading import RECOMPUTE, Abandoned, ChunkLoaded, Event, Opened, RecomputeChunk

_STYLES = {
    "lossless": "black on bright_white",
    "near-lossless": "black on bright_green",
    "high": "black on green",
    "balanced": "black on yellow",
    "compact": "black on dark_orange",
    "smallest": "white on red",
    RECOMPUTE: "white on blue",
    "held": "black on cyan",
}
_LETTERS = {"near-lossless": "n", "smallest": "s", "held": "="}
_OTHER = "white on magenta"
_WAITING = ("·", "dim")
_WIDTH = 64


def letter(level: str) -> str:
    """Return the letter that stands for a level where there are no colours."""
    return _LETTERS.get(level, level[:1] or "?")


def row(levels: Iterable[str]) -> Text:
    """Return the cells; an empty level is a chunk still to come."""
    text = Text()
    for at, level in enumerate(levels):
        if at and at % _WIDTH == 0:
            text.append("\n")
        text.append(*((letter(level), _STYLES.get(level, _OTHER)) if level else _WAITING))
    return text


def legend(levels: Iterable[str]) -> Text:
    """Return what the cells mean, with how many there are of each."""
    counts = Counter(level for level in levels if level)
    known = [*_STYLES, *sorted(set(counts) - set(_STYLES))]
    text = Text()
    for level in known:
        if counts[level]:
            text.append(f" {letter(level)} ", _STYLES.get(level, _OTHER))
            text.append(f" {level} x {counts[level]}   ")
    return text


def show(levels: Sequence[str]) -> None:
    """Print cells and legend."""
    console = output.console()
    console.print(row(levels))
    console.print(legend(levels))


class Watch:
    """The progress of a load; call it with each event.

    Its time begins when the context is opened: what this process imports and compiles before is not the link's.
    """

    def __init__(self) -> None:
        self.levels: list[str] = []
        self.plan: ChunkLoaded | RecomputeChunk | None = None
        self.received = self.abandoned = 0
        self._began: float | None = None
        self._last = 0.0
        self._title = ""

    @property
    def rate(self) -> float:
        """Bytes a second, from the opening to the last chunk that came; 0 before the first."""
        taken = self._last - (self._began or 0.0)
        return self.received / taken if self.received and taken > 0 else 0.0

    def __call__(self, event: Event) -> None:
        """Update from an event."""
        if isinstance(event, Opened):
            self._began = time.monotonic()
            chunks = [chunk for chunk in event.context.chunks if chunk.start < len(event.token_ids)]
            self.levels = [""] * len(chunks)
            self._title = f"{event.context.name}  {len(event.token_ids)} tokens, {len(chunks)} chunks"
        elif isinstance(event, ChunkLoaded):
            self.levels[event.index] = event.level
            self.received += event.size_bytes
            self._last = time.monotonic()
            self.plan = event
        elif isinstance(event, RecomputeChunk):
            self.levels[event.index] = RECOMPUTE
            self.plan = event
        elif isinstance(event, Abandoned):
            self.abandoned += 1

    def __rich__(self) -> Group:
        elapsed = 0.0 if self._began is None else time.monotonic() - self._began
        line = f"{output.size(self.received)} in {show_seconds(elapsed)}"
        if self.plan is not None:
            decision = self.plan.decision
            line += (
                f", counting on {show_rate(decision.bandwidth)}, done at {show_seconds(decision.finish_seconds)}"
                f"{'' if decision.in_time else ' (late)'}, loss {decision.loss:.4f} nats/token"
            )
        return Group(Text(self._title, "bold"), row(self.levels), legend(self.levels), Text(line, "dim"))


@contextmanager
def watching() -> Iterator[Watch]:
    """Show a load while it runs: on standard error, and only if that is a terminal."""
    console, watch = output.console(stderr=True), Watch()
    if not console.is_terminal:
        yield watch
        return
    with Live(console=console, refresh_per_second=8, transient=True, get_renderable=lambda: watch):
        yield watch
