"""What has ended is written down: by the job that ended, or by whoever looks at a request whose job is over."""

import structlog

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import NotFound, PalimpsestError, Reason
from palimpsest.jobs import JobRecord, JobStore
from palimpsest.settings import Settings
from services.unlearning.attesting import Attestation
from services.unlearning.requests.line import Line
from services.unlearning.requests.records import RemovalCatalogue, RemovalRecord
from services.unlearning.requests.states import ended, failed, seen
from services.unlearning.workspace import Workspace

_log = structlog.get_logger(__name__)


class Settler:
    """Brings requests up to date with their jobs. Blocks, and may be called from any thread.

    Parameters
    ----------
    requests
        The requests.
    jobs
        The jobs, in a worker or a server.
    settings
        Of the installation.
    """

    def __init__(self, requests: RemovalCatalogue, jobs: JobStore, settings: Settings) -> None:
        self._requests, self._jobs, self._settings = requests, jobs, settings

    def now(self, principal: str, record: RemovalRecord) -> RemovalRecord:
        """Return a request in its present state; if it has ended unnoticed, write that down and clear up."""
        found = seen(record, self._job(record))
        if not ended(found) or record.message.state == found.message.state:
            return found
        return self._end(principal, record, found)

    def fail(self, principal: str, record: RemovalRecord, error: PalimpsestError) -> None:
        """Note that a request's job ends with an error."""
        self._end(principal, record, failed(record, error))

    def leave(self, principal: str, record: RemovalRecord) -> None:
        """Leave the line, and let the job of the next request begin."""
        line = self._line(record)
        line.leave(principal, record.id)
        for other, removal_id in line.ahead(principal, record.id)[:1]:
            following = self._requests.find(other, removal_id)
            if following is not None and following.job:
                try:
                    self._jobs.defer(following.job, 0)
                except NotFound:
                    continue

    def ahead(self, principal: str, record: RemovalRecord) -> int:
        """Return how many requests stand before one; those that have ended are taken out of the line."""
        line, count = self._line(record), 0
        for other, removal_id in line.ahead(principal, record.id):
            found = self._requests.find(other, removal_id)
            if found is None:
                line.leave(other, removal_id)
                continue
            state = seen(found, self._job(found))
            if not ended(state) and state.message.state != pb.REMOVAL_STATE_HELD:
                count += 1
                continue
            line.leave(other, removal_id)
            try:
                self.now(other, found)
            except PalimpsestError as error:  # of somebody else's request, such as a log that is damaged
                _log.warning("a request that has ended is not settled", removal=removal_id, why=error.message)
        return count

    def _end(self, principal: str, record: RemovalRecord, found: RemovalRecord) -> RemovalRecord:
        message = found.message

        def change(stored: RemovalRecord) -> RemovalRecord:
            if stored.message.state in (pb.REMOVAL_STATE_SUCCEEDED, pb.REMOVAL_STATE_ROLLED_BACK):
                return stored
            return stored.changed(
                state=message.state,
                end_time=message.end_time,
                error=message.error if message.HasField("error") else None,
                result=message.result if message.HasField("result") else None,
            )

        # What others wait for and what must not stay comes first: once the state is written nobody comes here again,
        # also if the log is damaged.
        Workspace(self._settings, principal, record.id).clear()
        self.leave(principal, record)
        stored = self._requests.update(principal, record.id, change)
        event = pb.RemovalState.Name(stored.message.state).removeprefix("REMOVAL_STATE_")
        Attestation(self._settings, principal).note(record.id, event)
        return stored

    def _job(self, record: RemovalRecord) -> JobRecord | None:
        if not record.job:
            return None
        try:
            return self._jobs.get(record.job)
        except NotFound as error:
            if error.reason != Reason.JOB_NOT_FOUND:
                raise
            return None

    def _line(self, record: RemovalRecord) -> Line:
        return Line(self._jobs.redis, self._settings.redis_prefix, record.lineage)
