"""Removal requests in Redis. No text of a data set is in them: digests, ids and counts alone.

Keys, all under the installation's prefix, for each principal (quoted):

``removals:<principal>``        ZSET of request ids in the order of creation
``removals:<principal>:next``   the number given last in that order
``removal:<principal>:<id>``    HASH: ``record`` (RemovalRequest as JSON), ``content``, ``salt``, ``lineage``
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import redis
from google.protobuf import json_format

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.catalogue import Catalogue, Layout, quoted
from palimpsest.errors import AlreadyExists, NotFound, Reason

PREFIX = "removalRequests/"


@dataclass(frozen=True)
class RemovalRecord:
    """One request as it is stored.

    Attributes
    ----------
    message
        The request. Its state is the last one that was written down; ``states.seen`` compares it with the job.
    content
        Digest of the plan: what two requests of one id must have in common.
    salt
        Hexadecimal digits that go into the manifest, so that nobody can confirm a guessed text by its digest.
    lineage
        Fingerprint of the root of the model's lineage.
    """

    message: pb.RemovalRequest
    content: str
    salt: str
    lineage: str

    @property
    def id(self) -> str:
        """The id, without ``removalRequests/``."""
        return self.message.name.removeprefix(PREFIX)

    @property
    def job(self) -> str:
        """Id of its job; empty before there is one."""
        return self.message.operation.removeprefix("operations/")

    def changed(self, **fields: object) -> "RemovalRecord":
        """Return the record with fields of its message replaced; None clears one."""
        message = pb.RemovalRequest()
        message.CopyFrom(self.message)
        for name, value in fields.items():
            if value is None or hasattr(value, "DESCRIPTOR"):
                message.ClearField(name)  # type: ignore[arg-type]
                if value is not None:
                    getattr(message, name).CopyFrom(value)
            else:
                setattr(message, name, value)
        return replace(self, message=message)

    def with_job(self, operation: str, state: pb.RemovalState) -> "RemovalRecord":
        """Return the record with its job; whoever comes first, the call or the job itself, writes it down."""
        if self.message.state != pb.REMOVAL_STATE_RECEIVED:
            return self
        return self.changed(operation=operation, state=state)


def run_owner(principal: str, removal_id: str) -> str:
    """Owner of the references to what a request's run reads of other requests', until it has ended."""
    return f"removal-run/{quoted(principal)}/{removal_id}"


def new_salt() -> str:
    """Return a salt for a manifest."""
    return secrets.token_hex(16)


def content_of(plan: pb.RemovalPlan) -> str:
    """Digest of a plan: equal plans have equal ones."""
    return hashlib.sha256(plan.SerializeToString(deterministic=True)).hexdigest()


class RemovalCatalogue:
    """The requests of an installation, each its principal's. Blocks, and may be called from any thread.

    Every method raises Unavailable (JOB_STORE_UNAVAILABLE) if Redis does not answer.
    """

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._redis, self._prefix = client, prefix

    def put(self, principal: str, record: RemovalRecord) -> RemovalRecord:
        """Add a request; return it, or the one that is there with the same content.

        Raises
        ------
        AlreadyExists
            REMOVAL_EXISTS: the id is another request's.
        """
        there = self._of(principal).put(record.id, record)
        if there is None:
            return record
        return require_same(there, record.content)

    def find(self, principal: str, removal_id: str) -> RemovalRecord | None:
        """Return a request; None if there is none."""
        return self._of(principal).find(removal_id)

    def get(self, principal: str, name: str) -> RemovalRecord:
        """Return a request by its full name or its id.

        Raises
        ------
        NotFound
            REMOVAL_NOT_FOUND.
        """
        return self._of(principal).get(name.removeprefix(PREFIX))

    def list(self, principal: str, size: int, token: str) -> tuple[list[RemovalRecord], str]:
        """One page of a principal's requests, oldest first, and the token of the next; empty after the last.

        Raises
        ------
        InvalidArgument
            PAGE_TOKEN_INVALID.
        """
        return self._of(principal).list(size, token)

    def update(
        self, principal: str, removal_id: str, change: Callable[[RemovalRecord], RemovalRecord]
    ) -> RemovalRecord:
        """Change a request in one step; see ``Catalogue.update``."""
        return self._of(principal).update(removal_id, change)

    def held(self, principal: str) -> int:
        """Return how many of a principal's requests are held."""
        entries = self._of(principal)
        records = entries.find_all(entries.ids())
        return sum(record.message.state == pb.REMOVAL_STATE_HELD for record in records)

    def succeeded(self, principal: str) -> "list[RemovalRecord]":
        """Return a principal's requests that have succeeded and were not taken back, oldest first."""
        entries = self._of(principal)
        records = entries.find_all(entries.ids())
        return [record for record in records if record.message.state == pb.REMOVAL_STATE_SUCCEEDED]

    def _of(self, principal: str) -> Catalogue[RemovalRecord]:
        whose = quoted(principal)
        layout = Layout(
            index=f"{self._prefix}removals:{whose}",
            row=lambda removal_id: f"{self._prefix}removal:{whose}:{removal_id}",
            fields=lambda _: ("record", "content", "salt", "lineage"),
            write=lambda record: (
                json_format.MessageToJson(record.message, preserving_proto_field_name=True, indent=None),
                record.content,
                record.salt,
                record.lineage,
            ),
            read=lambda values: RemovalRecord(
                json_format.Parse(values[0], pb.RemovalRequest(), ignore_unknown_fields=True), *values[1:]
            ),
        )
        return Catalogue(self._redis, layout, _not_found)


def require_same(there: RemovalRecord, content: str) -> RemovalRecord:
    """Return a request that is there already, if it has this content.

    Raises
    ------
    AlreadyExists
        REMOVAL_EXISTS: it has another.
    """
    if there.content != content:
        message = (
            f"{there.message.name} has another plan. Use another removal_id and request_id for this one."
        )
        raise AlreadyExists(Reason.REMOVAL_EXISTS, message, metadata={"name": there.message.name})
    return there


def _not_found(removal_id: str) -> NotFound:
    message = f"There is no removal request {removal_id!r}. `palimpsest unlearn list` shows those there are."
    return NotFound(Reason.REMOVAL_NOT_FOUND, message, metadata={"name": f"{PREFIX}{removal_id}"})
