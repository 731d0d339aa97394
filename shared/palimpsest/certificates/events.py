"""One line of the audit log: what happened, when, to which request, by whom, and the hash of the line before."""

from typing import Annotated, Self

from pydantic import StringConstraints

from palimpsest.certificates.records import Count, Digest, Name, Record, Time
from palimpsest.errors import DataLoss, InvalidArgument, Reason

GENESIS = "sha256:" + "0" * 64
"""``previous`` of the first event."""
LONGEST_LINE = 4096
"""Bytes; the limits of the fields keep every line below it."""


class Event(Record):
    """One event. Its fields have no room for a text: what happened in detail is a payload, kept elsewhere.

    Attributes
    ----------
    seq
        0, 1, 2, ... within the log.
    time
        When it was written, by the writer's clock.
    request
        The removal request it belongs to.
    type
        What happened, such as ``CERTIFICATE_ISSUED``.
    actor
        The principal it is put down to.
    payload
        Digest of what is kept beside the log or published, if there is anything.
    previous
        ``hash`` of the event before; ``GENESIS`` for the first.
    hash
        SHA-256 of the canonical JSON of all other fields.
    """

    seq: Count
    time: Time
    request: Name
    type: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
    actor: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    payload: Digest | None
    previous: Digest
    hash: Digest

    @classmethod
    def following(
        cls, last: "Event | None", *, time: str, request: str, type: str, actor: str, payload: str | None
    ) -> Self:
        """Build the event that comes after ``last``; None for the first of a log.

        Raises
        ------
        InvalidArgument
            RECORD_INVALID: a field breaks its limits.
        """
        fields = {
            "seq": last.seq + 1 if last else 0,
            "time": time,
            "request": request,
            "type": type,
            "actor": actor,
            "payload": payload,
            "previous": last.hash if last else GENESIS,
        }
        unsealed = cls.of({**fields, "hash": GENESIS})
        return cls.of({**fields, "hash": unsealed.fingerprint("hash")})

    @classmethod
    def read(cls, line: bytes, last: "Event | None") -> Self:
        """Read a line, newline included, and check that it follows ``last``.

        Raises
        ------
        DataLoss
            LOG_CHAIN_BROKEN: the line is not an event, its hash is not its own, or another event belongs before it.
        """
        seq = last.seq + 1 if last else 0
        event = cls.alone(line, seq)
        if event.seq != seq:
            raise broken(
                seq, f"the log has number {event.seq} there: events are missing, repeated or out of order"
            )
        if event.previous != (last.hash if last else GENESIS):
            raise broken(seq, "it was not written after the event before it")
        return event

    @classmethod
    def alone(cls, line: bytes, seq: int | None = None) -> Self:
        """Read a line, newline included, without the one before; ``seq`` is for the message.

        Raises
        ------
        DataLoss
            LOG_CHAIN_BROKEN: the line is not an event, or its hash is not its own.
        """
        try:
            event = cls.parse(line, max_bytes=LONGEST_LINE)
        except InvalidArgument as error:
            raise broken(seq, f"it cannot be read. {error.message}") from None
        if event.fingerprint("hash") != event.hash:
            raise broken(seq, "its content does not have the hash that it names")
        return event


def broken(seq: int | None, what: str) -> DataLoss:
    """Build the error for a log whose chain is broken at an event; None for one near the end."""
    place = "near its end" if seq is None else f"at event {seq}"
    return DataLoss(
        Reason.LOG_CHAIN_BROKEN,
        f"The audit log is damaged or was changed {place}: {what.rstrip('.')}. Restore it from a copy.",
        metadata={} if seq is None else {"seq": seq},
    )
