"""Quotas of each caller: requests and bytes a minute."""

import time
from collections.abc import Callable

from palimpsest.errors import Reason, ResourceExhausted
from palimpsest.settings import Settings


class _Bucket:
    """A token bucket that holds one minute's allowance."""

    __slots__ = ("level", "time")

    def __init__(self, level: float, now: float) -> None:
        self.level = level
        self.time = now


class Quotas:
    """Token buckets for each caller, in this process: a deployment of several servers allows the sum.

    Parameters
    ----------
    settings
        ``quota_requests_per_minute`` and ``quota_bytes_per_minute``; 0 for no quota.
    clock
        Seconds, monotonic.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = {
            "requests": settings.quota_requests_per_minute,
            "bytes": settings.quota_bytes_per_minute,
        }
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def request(self, principal: str | None) -> None:
        """Count one request; None: a job's, which is nobody's.

        Raises
        ------
        ResourceExhausted
            The minute's requests are used up; ``retry_after`` says when the next may come.
        """
        self._take("requests", principal, 1)

    def bytes(self, principal: str | None, amount: int) -> None:
        """Count received bytes; None: a job's, which are nobody's.

        One message may overdraw the allowance; the next is refused until that is made up.

        Raises
        ------
        ResourceExhausted
            The minute's bytes are used up.
        """
        self._take("bytes", principal, amount)

    def _take(self, unit: str, principal: str | None, amount: int) -> None:
        limit = self._limits[unit]
        if not limit or principal is None:
            return
        now = self._clock()
        bucket = self._buckets.setdefault((unit, principal), _Bucket(limit, now))
        bucket.level = min(limit, bucket.level + (now - bucket.time) * limit / 60)
        bucket.time = now
        if bucket.level < min(amount, 1):
            wait = (1 - bucket.level) * 60 / limit
            raise ResourceExhausted(
                Reason.QUOTA_EXCEEDED,
                f"{principal!r} has used its {limit} {unit} a minute; wait {wait:.1f} s.",
                metadata={"quota": f"{unit}_per_minute", "limit": limit},
                retry_after=wait,
            )
        bucket.level -= amount
