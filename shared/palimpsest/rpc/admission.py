"""Which calls a server takes at once: a limit for all, a share of it for each caller, and a reserve.

The reserve is for calls with which people find out what happens and stop it: they are answered when data calls have
taken every other place. It holds short calls only, so that nobody can sit in it.

Calls that a job makes for its caller have places of their own, of the same number: however many lines of a batch are
generated at once, the caller's own calls have as many places as before, and so has everybody else.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from palimpsest.errors import Reason, ResourceExhausted
from palimpsest.settings import Settings

CHECK = "/grpc.health.v1.Health/Check"
"""Always answered, even by a full or draining server: a failed probe would restart it."""
HEALTH = "/grpc.health.v1.Health/"
_CONTROL = (
    "/google.longrunning.Operations/GetOperation",
    "/google.longrunning.Operations/ListOperations",
    "/google.longrunning.Operations/CancelOperation",
    "/google.longrunning.Operations/DeleteOperation",
    "/palimpsest.api.jobs.v1.JobsService/RetryJob",
    "/grpc.reflection.",
)
"""What may use the reserve. Waiting for a job and watching it are not control: they last."""


class Places:
    """A number of calls at once, of which one caller may have a share.

    Parameters
    ----------
    limit
        Calls at once.
    share
        The part of them that one caller may have, in (0, 1]; never less than one call.
    """

    def __init__(self, limit: int, share: float) -> None:
        self._limit = limit
        self._caller_limit = max(1, int(limit * share))
        self._taken: Counter[str] = Counter()

    def refusal(self, principal: str) -> ResourceExhausted | None:
        """Return why a caller gets no place now; None if there is one."""
        if self._taken.total() >= self._limit:
            return ResourceExhausted(
                Reason.TOO_MANY_REQUESTS,
                f"The server is serving {self._limit} calls, its limit; send it again shortly.",
                retry_after=1.0,
            )
        if self._taken[principal] >= self._caller_limit:
            return ResourceExhausted(
                Reason.QUOTA_EXCEEDED,
                f"{principal!r} has {self._taken[principal]} calls running, as many as one caller may have at once; "
                "end some, or send it again when some have ended.",
                metadata={"quota": "concurrent_rpcs", "limit": self._caller_limit},
                retry_after=1.0,
            )
        return None

    def take(self, principal: str) -> None:
        """Take a place; :meth:`refusal` said there is one."""
        self._taken[principal] += 1

    def leave(self, principal: str) -> None:
        """Give a place back."""
        self._taken[principal] -= 1
        if not self._taken[principal]:
            del self._taken[principal]

    @contextmanager
    def place(self, principal: str) -> Iterator[None]:
        """Hold a place.

        Raises
        ------
        ResourceExhausted
            There is none.
        """
        if (refusal := self.refusal(principal)) is not None:
            raise refusal
        self.take(principal)
        try:
            yield
        finally:
            self.leave(principal)


class Admission:
    """Gives each call a place. Used on the event loop.

    Parameters
    ----------
    settings
        ``max_concurrent_rpcs``, ``reserved_rpcs`` and ``caller_share``.
    """

    def __init__(self, settings: Settings) -> None:
        self._data = Places(settings.max_concurrent_rpcs, settings.caller_share)
        self._of_jobs = Places(settings.max_concurrent_rpcs, settings.caller_share)
        self._reserve = Places(settings.reserved_rpcs, settings.caller_share)
        # Whoever watches the health of a server needs no token, so these calls take no place of anybody's.
        self._watchers = Places(settings.reserved_rpcs, 1.0)

    def enter(self, method: str, principal: str, by_job: bool = False) -> Places | None:
        """Take a place for a call, which leaves it when it has ended; None: this method needs none.

        Parameters
        ----------
        method
            Full name.
        principal
            For whom the call is served.
        by_job
            A job makes it for that caller.

        Raises
        ------
        ResourceExhausted
            TOO_MANY_REQUESTS: the server is full. QUOTA_EXCEEDED: this caller has its share.
        """
        if method == CHECK:
            return None
        if method.startswith(HEALTH):
            choices = (self._watchers,)
        elif by_job:
            choices = (self._of_jobs,)
        elif method.startswith(_CONTROL):
            choices = (self._data, self._reserve)
        else:
            choices = (self._data,)
        refusals = []
        for places in choices:
            if (refusal := places.refusal(principal)) is None:
                places.take(principal)
                return places
            refusals.append(refusal)
        raise refusals[-1]
