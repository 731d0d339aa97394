"""What has ended is written down: by the job that ended, or by whoever looks at a request whose job is over."""

import structlog

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.artifacts.references import References
from palimpsest.errors import NotFound, PalimpsestError, Reason
from palimpsest.jobs import JobRecord, JobStore
from palimpsest.settings import Settings
from services.unlearning.attesting import Attestation
from services.unlearning.requests.line import Line
from services.unlearning.requests.records import RemovalCatalogue, RemovalRecord, run_owner
from services.unlearning.requests.states import SETTLED, can_go_on, ended, failed, seen
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

    Attributes
    ----------
    requests
        As given.
    """

    def __init__(self, requests: RemovalCatalogue, jobs: JobStore, settings: Settings) -> None:
        self.requests, self._jobs, self._settings = requests, jobs, settings

    def now(self, principal: str, record: RemovalRecord) -> RemovalRecord:
        """Return a request in its present state; if it has ended unnoticed, write that down and clear up."""
        found = seen(record, self.job(record))
        if not ended(found) or record.message.state == found.message.state:
            return found
        return self._end(principal, record, found)

    def fail(self, principal: str, record: RemovalRecord, error: PalimpsestError) -> None:
        """Note that a request's job ends with an error; where even that fails, whoever looks at the request does it."""
        try:
            self._end(principal, record, failed(record, error))
        except PalimpsestError as other:
            # Such as a log on a disk that is full: the error to tell is the job's.
            _log.warning("the end of a request is not noted", removal=record.id, why=other.message)

    def leave(self, principal: str, record: RemovalRecord) -> None:
        """Leave the line, and let the job of the next request begin."""
        line = self._line(record)
        line.leave(principal, record.id)
        for other, removal_id in line.ahead(principal, record.id)[:1]:
            following = self.requests.find(other, removal_id)
            if following is not None and following.job:
                try:
                    self._jobs.defer(following.job, 0)
                except NotFound:
                    continue

    def release(self, principal: str, removal_id: str) -> None:
        """Give up what a request's run has kept of other requests', once it has ended."""
        references = References(self._jobs.redis, self._settings.redis_prefix)
        references.remove_owner(run_owner(principal, removal_id))

    def ahead(self, principal: str, record: RemovalRecord) -> int:
        """Return how many requests stand before one; those that have ended are taken out of the line."""
        line, count = self._line(record), 0
        for other, removal_id in line.ahead(principal, record.id):
            found = self.requests.find(other, removal_id)
            if found is None:
                line.leave(other, removal_id)
                continue
            state = seen(found, self.job(found))
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
        message, news = found.message, False

        def change(stored: RemovalRecord) -> RemovalRecord:
            nonlocal news
            news = stored.message.state not in (*SETTLED, message.state)
            if stored.message.state in SETTLED:
                return stored
            return stored.changed(
                state=message.state,
                end_time=message.end_time,
                error=message.error if message.HasField("error") else None,
                result=message.result if message.HasField("result") else None,
            )

        # What others wait for and what must not stay comes first: once the state is written nobody comes here again,
        # also if the log is damaged.
        if not can_go_on(found):
            Workspace(self._settings, principal, record.id).clear()
            self.release(principal, record.id)
        self.leave(principal, record)
        stored = self.requests.update(principal, record.id, change)
        if news:  # of several that look at the same moment one notes it
            event = pb.RemovalState.Name(stored.message.state).removeprefix("REMOVAL_STATE_")
            Attestation(self._settings, principal).note(record.id, event)
        return stored

    def job(self, record: RemovalRecord) -> JobRecord | None:
        """Return the job of a request; None if it has none, or none any more."""
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
