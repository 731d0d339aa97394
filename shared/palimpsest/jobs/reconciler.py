"""The reconciler: finds jobs whose hint or worker was lost, and queues them again. Any number may run at once."""

import asyncio
import time

import structlog

from palimpsest.errors import PalimpsestError
from palimpsest.jobs.async_store import AsyncJobStore

_log = structlog.get_logger(__name__)


class Reconciler:
    """Sweeps the job store: announces waiting jobs again, ends lapsed leases, time limits and retention.

    Every sweep is one script that removes what is due from its index, so two reconcilers never do the same thing twice.

    Parameters
    ----------
    jobs
        Store to sweep, whose ``announce`` wakes workers.
    interval
        Seconds between sweeps.
    """

    def __init__(self, jobs: AsyncJobStore, interval: float = 2.0) -> None:
        self._jobs = jobs
        self._interval = interval
        self._lapse_from = 0.0

    async def run(self) -> None:
        """Sweep until cancelled, whatever happens to Redis meanwhile."""
        while True:
            try:
                more = await self.sweep()
            except PalimpsestError as error:
                # Workers could not renew their leases either; give them time to, once Redis is back.
                self._lapse_from = time.monotonic() + self._interval + self._jobs.settings.lease_seconds
                _log.warning("sweep failed", error=str(error))
                more = False
            except Exception:  # a bug must not end the only loop that repairs
                _log.exception("sweep failed")
                more = False
            await asyncio.sleep(0 if more else self._interval)

    async def sweep(self) -> bool:
        """Sweep once; return whether there may be more to do at once.

        Raises
        ------
        Unavailable
            Redis does not answer.
        """
        done = await self._jobs.sweep(lapse=time.monotonic() >= self._lapse_from)
        for job_id, queue in done.hints:
            self._jobs.announce(job_id, queue)
        if done.lapsed or done.timed_out or done.forgotten:
            _log.info(
                "swept",
                lapsed=done.lapsed,
                timed_out=done.timed_out,
                forgotten=done.forgotten,
                announced=len(done.hints),
            )
        return done.more
