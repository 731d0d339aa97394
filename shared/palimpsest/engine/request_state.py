"""A request on its way through the engine."""

from collections.abc import Callable
from dataclasses import dataclass, field

from palimpsest.engine.events import Deliver, Event, Failed
from palimpsest.engine.prefix_assembler import PrefixAssembler
from palimpsest.engine.requests import Request, Sequence
from palimpsest.errors import PalimpsestError
from palimpsest.lm.forward import Cache


@dataclass(eq=False)
class RequestState:
    """A submitted request."""

    request: Request
    deliver: Deliver
    blocks: int
    keys: list[bytes]
    wake: Callable[[], None]
    cancelled: bool = False
    cache: Cache | None = None
    sequences: list[Sequence] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    shared: int = 0
    assembler: PrefixAssembler | None = None
    prefix_reported: bool = False
    failure: PalimpsestError | None = None

    @property
    def width(self) -> int:
        """Slots in the batch that each of its sequences may take."""
        return 1 if self.request.strategy is None else self.request.strategy.width

    @property
    def background(self) -> bool:
        """Whether it waits for interactive requests."""
        return self.request.background

    @property
    def slots(self) -> int:
        """Slots in the batch that it may take."""
        return self.request.n * self.width

    @property
    def error(self) -> PalimpsestError | None:
        """What ends the request before its time, if anything."""
        if self.failure is not None:
            return self.failure
        return self.request.prefix.error if self.request.prefix is not None else None

    @property
    def over(self) -> bool:
        """Whether the request leaves before the next step."""
        return self.cancelled or self.error is not None

    def end(self, error: PalimpsestError | None = None) -> None:
        """Close the external prefix, and report an error if that is what ended the request."""
        if self.request.prefix is not None:
            self.request.prefix.close()
        error = error or self.error
        if error is not None and not self.cancelled:
            self.deliver([Failed(error)])

    def fail(self, error: PalimpsestError) -> None:
        """End the request with an error before the next step; called on the engine's thread."""
        self.failure = error
        self.wake()

    def cancel(self) -> None:
        """Remove the request before the next step; no more events come."""
        self.cancelled = True
        self.wake()
