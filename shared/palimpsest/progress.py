"""What long work reports and receives: progress and partial results out, cancellation in, checkpoints.

Importing this module imports nothing else.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from google.protobuf.message import Message


class Drain(Exception):
    """The worker is shutting down: leave a checkpoint and let this exception pass; the job is queued again."""


class Postponed(Exception):
    """The work cannot begin yet, because of other work: the job waits in its queue again, and no attempt is counted.

    Parameters
    ----------
    seconds
        How long it waits at least.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not before {seconds:g} s from now")
        self.seconds = seconds


class LeaseLost(Exception):
    """Another worker has, or may have, the job now: stop. Nothing more that this attempt does is kept."""


class Progress(Protocol):
    """How domain code reports. Call ``step`` or ``check`` at least every few seconds."""

    def step(self, done: int, total: int, stage: str = "") -> None:
        """Report ``done`` of ``total`` units (total 0: unknown), then check. An empty stage keeps the last one.

        A new stage reaches watchers at once, everything else with the next heartbeat.
        """
        ...

    def check(self) -> None:
        """Return if the work should go on.

        Once this has raised, the result is not kept, even if the exception is swallowed.

        Raises
        ------
        palimpsest.errors.Cancelled
            The job was cancelled.
        Drain
            The worker is shutting down; ``checkpoint`` may still be called on the way out.
        LeaseLost
            The job is no longer this attempt's.
        """
        ...

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Keep JSON-able state for a later attempt. Keep it small: publish the bulk as artefacts first."""
        ...

    def partial(self, message: "Message") -> None:
        """Publish a partial result, which watchers of the job receive at once and in order.

        At most 64 KiB each; the record keeps the last 1000, at most 1 MiB of them. A few a second at most. A later
        attempt may publish again what an earlier one has published: each carries its attempt's number.

        Raises
        ------
        palimpsest.errors.InvalidArgument
            JOB_TOO_LARGE: the message takes more than 64 KiB.
        """
        ...

    def resume(self) -> dict[str, Any] | None:
        """Return the last checkpoint of an earlier attempt, or None."""
        ...

    def publish(self, digest: str) -> None:
        """Let the job refer to an artefact, so that garbage collection keeps it as long as the job's record."""
        ...


class NullProgress:
    """Progress for direct calls and tests: it cancels nothing and remembers checkpoints and partial results.

    Attributes
    ----------
    partials
        What ``partial`` was called with, in order.
    """

    def __init__(self, resume: Mapping[str, Any] | None = None) -> None:
        self._checkpoint = dict(resume) if resume is not None else None
        self.partials: list[Message] = []

    def step(self, done: int, total: int, stage: str = "") -> None:
        """Do nothing."""

    def check(self) -> None:
        """Do nothing."""

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Remember state for resume()."""
        self._checkpoint = dict(state)

    def partial(self, message: "Message") -> None:
        """Remember the message."""
        self.partials.append(message)

    def resume(self) -> dict[str, Any] | None:
        """Return the last checkpoint."""
        return self._checkpoint

    def publish(self, digest: str) -> None:
        """Do nothing."""
