"""What callers may do with a recorded request: hold it, approve it, take it back."""

import asyncio

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.errors import FailedPrecondition, NotFound, Reason, ResourceExhausted
from palimpsest.models import unregister
from palimpsest.progress import NullProgress
from palimpsest.rpc.resources import Resources
from services.unlearning.attesting import Attestation
from services.unlearning.requests.line import Line
from services.unlearning.requests.records import RemovalCatalogue, RemovalRecord
from services.unlearning.requests.settling import Settler
from services.unlearning.requests.states import HELD_SECONDS, SETTLED
from services.unlearning.workspace import Workspace

MOST_HELD = 50
"""Requests that a caller may have on hold: their jobs wait in the queue, where others are looked for behind them."""


class Transitions:
    """Changes of requests' states that are not a job's.

    Parameters
    ----------
    resources
        Of the server.
    requests, settler
        The requests, and their present states.
    """

    def __init__(self, resources: Resources, requests: RemovalCatalogue, settler: Settler) -> None:
        self._resources, self._requests, self._settler = resources, requests, settler

    async def hold(self, principal: str, name: str) -> pb.RemovalRequest:
        """Hold a request that waits; one that is held already stays so.

        Raises
        ------
        NotFound
            REMOVAL_NOT_FOUND.
        FailedPrecondition
            REMOVAL_STATE: it runs or has ended.
        ResourceExhausted
            REMOVALS_HELD.
        """
        record = await asyncio.to_thread(self._now, principal, name)
        if record.message.state == pb.REMOVAL_STATE_HELD:
            return record.message
        if record.message.state != pb.REMOVAL_STATE_QUEUED:
            raise _refused(record, "only one that waits can be held; cancel its job to end it")
        await asyncio.to_thread(self.require_room, principal)
        # First the word, then the job: an attempt that begins in between reads the word and waits.
        held = await asyncio.to_thread(self._write, principal, record, pb.REMOVAL_STATE_HELD)
        if await self._resources.jobs.defer(record.job, HELD_SECONDS) is None:
            await asyncio.to_thread(self._write, principal, record, pb.REMOVAL_STATE_QUEUED)
            now = await asyncio.to_thread(self._now, principal, name)
            raise _refused(now, "it has begun; cancel its job to end it")
        await asyncio.to_thread(self._line(record).leave, principal, record.id)
        await asyncio.to_thread(self._note, principal, record, "HELD")
        return held.message

    async def approve(self, principal: str, name: str) -> pb.RemovalRequest:
        """Let a held request run; nothing changes for one that is not held.

        Raises
        ------
        NotFound
            REMOVAL_NOT_FOUND.
        FailedPrecondition
            REMOVAL_STATE: it has ended.
        """
        record = await asyncio.to_thread(self._now, principal, name)
        if record.message.state in (pb.REMOVAL_STATE_QUEUED, pb.REMOVAL_STATE_RUNNING):
            # Also for a call before this one that died on its way to the job.
            await self._resources.jobs.defer(record.job, 0)
            return record.message
        if record.message.state != pb.REMOVAL_STATE_HELD:
            raise _refused(record, "only one that is held can be approved")
        queued = await asyncio.to_thread(self._write, principal, record, pb.REMOVAL_STATE_QUEUED)
        await asyncio.to_thread(self._line(record).join, principal, record.id)
        await asyncio.to_thread(self._note, principal, record, "APPROVED")
        await self._resources.jobs.defer(record.job, 0)
        return queued.message

    def roll_back(self, principal: str, name: str) -> pb.RemovalRequest:
        """Revoke the certificate and delete the model of a request; one that was taken back stays so. Blocks.

        Raises
        ------
        NotFound
            REMOVAL_NOT_FOUND.
        FailedPrecondition
            REMOVAL_STATE: it has not succeeded. MODEL_HAS_CHILDREN.
        """
        record = self._now(principal, name)
        if record.message.state == pb.REMOVAL_STATE_ROLLED_BACK:
            return record.message
        if record.message.state != pb.REMOVAL_STATE_SUCCEEDED:
            raise _refused(record, "only one that has succeeded can be taken back")
        self._delete_model(principal, record)
        Attestation(self._resources.settings, principal).revoke(record.id)
        self._note(principal, record, "ROLLED_BACK")
        return self._write(principal, record, pb.REMOVAL_STATE_ROLLED_BACK).message

    def require_room(self, principal: str) -> None:
        """Check that a caller may have one more request on hold.

        Raises
        ------
        ResourceExhausted
            REMOVALS_HELD.
        """
        if self._requests.held(principal) >= MOST_HELD:
            message = f"{MOST_HELD} of your requests are held, and no more may be. Approve or cancel some."
            raise ResourceExhausted(Reason.REMOVALS_HELD, message)

    def _delete_model(self, principal: str, record: RemovalRecord) -> None:
        """Delete the model that the request made; another one of its id, be it a copy, is somebody's own."""
        own, made = self._resources, record.message.plan.new_model
        try:
            model = own.models.get(made)
        except NotFound:
            return
        if model.path == str(Workspace(own.settings, principal, record.id).registered):
            unregister(made, own.models, own.settings, NullProgress())

    def _now(self, principal: str, name: str) -> RemovalRecord:
        return self._settler.now(principal, self._requests.get(principal, name))

    def _write(self, principal: str, record: RemovalRecord, state: pb.RemovalState) -> RemovalRecord:
        """Write a state; one that waits again has not ended. What has succeeded can only be taken back."""
        fields: dict[str, object] = {"state": state}
        if state != pb.REMOVAL_STATE_ROLLED_BACK:
            fields |= {"end_time": None, "error": None}

        def change(found: RemovalRecord) -> RemovalRecord:
            if found.message.state in SETTLED and state != pb.REMOVAL_STATE_ROLLED_BACK:
                return found
            return found.changed(**fields)

        return self._requests.update(principal, record.id, change)

    def _note(self, principal: str, record: RemovalRecord, event: str) -> None:
        Attestation(self._resources.settings, principal).note(record.id, event)

    def _line(self, record: RemovalRecord) -> Line:
        return Line(self._resources.redis, self._resources.settings.redis_prefix, record.lineage)


def _refused(record: RemovalRecord, why: str) -> FailedPrecondition:
    state = pb.RemovalState.Name(record.message.state).removeprefix("REMOVAL_STATE_")
    message = f"{record.message.name} is {state}: {why}."
    return FailedPrecondition(Reason.REMOVAL_STATE, message, metadata={"state": state})
