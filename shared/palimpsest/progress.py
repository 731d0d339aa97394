"""How long work talks to whoever watches it: progress out, cancellation in, checkpoints. Costs no import."""

from collections.abc import Mapping
from typing import Any, Protocol


class Drain(Exception):
    """The worker is shutting down: leave a checkpoint and let this go through; the job is queued again."""


class LeaseLost(Exception):
    """Another worker has, or may have, the job now: stop; nothing more this run does will be kept."""


class Progress(Protocol):
    """What domain code is handed. Call ``step`` or ``check`` at least every few seconds."""

    def step(self, done: int, total: int, stage: str = "") -> None:
        """Report ``done`` of ``total`` units (total 0: unknown), then check. An empty stage keeps the last one.

        A new stage reaches whoever watches at once, the rest with the next heartbeat.
        """
        ...

    def check(self) -> None:
        """Return if the work should go on.

        Once this has raised, the run's result is not kept even if the exception is swallowed.

        Raises
        ------
        palimpsest.errors.Cancelled
            Someone cancelled the job.
        Drain
            The worker is shutting down; ``checkpoint`` may still be called on the way out.
        LeaseLost
            The job is no longer this run's.
        """
        ...

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Keep JSON-able state (small: bulk goes to artefacts, published first) for a later attempt."""
        ...

    def resume(self) -> dict[str, Any] | None:
        """Return the last checkpoint of an earlier attempt, or None."""
        ...

    def publish(self, digest: str) -> None:
        """Refer the job to an artefact, so that garbage collection keeps it as long as the job's record."""
        ...


class NullProgress:
    """Progress for direct calls and tests: nobody watches, nothing is cancelled, checkpoints are remembered."""

    def __init__(self, resume: Mapping[str, Any] | None = None) -> None:
        self._checkpoint = dict(resume) if resume is not None else None

    def step(self, done: int, total: int, stage: str = "") -> None:
        """Do nothing."""

    def check(self) -> None:
        """Do nothing."""

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Remember state for resume()."""
        self._checkpoint = dict(state)

    def resume(self) -> dict[str, Any] | None:
        """Return the last checkpoint."""
        return self._checkpoint

    def publish(self, digest: str) -> None:
        """Do nothing."""
