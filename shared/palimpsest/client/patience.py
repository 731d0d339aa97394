"""Retrying while a server is away: which failures are transient, and the pauses between attempts."""

import random
import time

from palimpsest.errors import Cancelled, Code, Internal, PalimpsestError, Reason, Unavailable

PATIENCE_SECONDS = 60.0
"""Seconds without progress after which the failure is raised to the caller."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


def transient(error: PalimpsestError) -> bool:
    """Whether the same call may succeed later, although nothing about it changes."""
    if isinstance(error, Unavailable) or error.retry_after is not None or error.reason == Reason.UPLOAD_BUSY:
        return True
    # A server that stops, or a proxy in between, ends streams with these and no details of ours.
    by_transport = error.reason in ("", Reason.CANCELLED)
    return by_transport and (isinstance(error, Cancelled | Internal) or error.code == Code.UNKNOWN)


class Patience:
    """The pauses of one operation that is retried.

    Parameters
    ----------
    seconds
        Time without progress after which the last failure is raised.
    """

    def __init__(self, seconds: float = PATIENCE_SECONDS) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._pause = _FIRST_PAUSE

    def progressed(self) -> None:
        """Note progress; the next failure counts as the first."""
        self._since = None
        self._pause = _FIRST_PAUSE

    def pause(self, error: PalimpsestError) -> float:
        """Return the seconds to wait before trying again.

        Raises
        ------
        PalimpsestError
            The error itself, where it does not pass or patience is at its end.
        """
        now = time.monotonic()
        self._since = self._since if self._since is not None else now
        if not transient(error) or now - self._since > self._seconds:
            raise error
        wait = max(self._pause * random.uniform(0.5, 1.0), error.retry_after or 0.0)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        return wait
