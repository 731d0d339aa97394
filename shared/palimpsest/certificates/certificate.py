"""Certificates: a statement, proof that its digest is in the audit log, and the issuer's signature over both."""

import itertools
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Self

from palimpsest.certificates import merkle
from palimpsest.certificates.events import GENESIS, Event
from palimpsest.certificates.files import append
from palimpsest.certificates.keys import SigningKey
from palimpsest.certificates.log import EventLog
from palimpsest.certificates.records import Count, Digest, Record, Signature, Time, time_of, time_text
from palimpsest.certificates.statement import Statement
from palimpsest.errors import FailedPrecondition, Reason

ISSUED = "CERTIFICATE_ISSUED"
"""Type of the event whose payload is the digest of a certificate's statement."""
_CERTIFICATE = b"palimpsest certificate 1\n"
_CHECKPOINT = b"palimpsest checkpoint 1\n"
"""Signed in front of the content, so that no signature of one kind passes for one of another."""
LARGEST_CHECKPOINT = 4096


class TreeHead(Record):
    """The audit log up to an event.

    Attributes
    ----------
    size
        Number of events.
    root
        Of the Merkle tree (RFC 6962) over the lines of these events, without their newlines.
    head
        ``hash`` of the last of them; by the chain it is a digest of the log up to there.
    """

    size: Count
    root: Digest
    head: Digest


class Inclusion(Record):
    """Proof that an event is in the log: its number, and the hashes from its leaf up to ``tree.root``."""

    tree: TreeHead
    index: Count
    path: list[Digest]

    def leads_from(self, leaf: bytes) -> bool:
        """Return whether the path leads from a leaf's hash to the root."""
        path = [raw(sibling) for sibling in self.path]
        return merkle.root_from_path(leaf, self.index, self.tree.size, path) == raw(self.tree.root)


class Certificate(Record):
    """A certificate as a file holds it; ``verify`` says whether to believe it."""

    statement: Statement
    inclusion: Inclusion
    signature: Signature

    def message(self) -> bytes:
        """Return the bytes that are signed: everything but the signature."""
        return _CERTIFICATE + self.body("signature")


class Checkpoint(Record):
    """A signed statement of the log's length and content: with it, cutting events off the end can be detected."""

    tree: TreeHead
    time: Time
    issuer: Digest
    signature: Signature

    def message(self) -> bytes:
        """Return the bytes that are signed: everything but the signature."""
        return _CHECKPOINT + self.body("signature")

    @classmethod
    def make(cls, log: EventLog, key: SigningKey, now: datetime) -> Self:
        """Sign the log as it is; keep the checkpoint where the log's writers cannot change it.

        Raises
        ------
        DataLoss, Unavailable
            As ``EventLog.append``.
        FailedPrecondition
            LOG_EMPTY: there is nothing to sign.
        """
        leaves, last = leaves_of(log.read())
        if last is None:
            raise FailedPrecondition(Reason.LOG_EMPTY, f"The audit log {log.path} has no event yet.")
        tree = TreeHead(size=len(leaves), root=named(merkle.root_of(leaves)), head=last.hash)
        unsigned = cls(tree=tree, time=time_text(now), issuer=key.public.id, signature="0" * 128)
        return unsigned.model_copy(update={"signature": key.sign(unsigned.message())})

    def append_to(self, path: Path) -> None:
        """Add the checkpoint to a file of them, durably."""
        append(path, self.to_bytes())


def issue(
    statement: Statement, log: EventLog, key: SigningKey, *, actor: str, superseding: bool = False
) -> Certificate:
    """Write a statement's digest into the log, prove that it is there, and sign.

    May be called again with the same statement, as after a crash: the event is written once. Keep the statement
    before the first call.

    Parameters
    ----------
    statement, log, key
        What is certified, where that is noted, and who signs.
    actor
        Who issues it.
    superseding
        The certificate takes the place of those that were issued for the request before. Revoke these.

    Raises
    ------
    FailedPrecondition
        KEY_MISSING: the statement names another key, or is valid for longer than the key.
    AlreadyExists
        EVENT_EXISTS: another certificate was issued for the request.
    DataLoss, Unavailable, ResourceExhausted
        As ``EventLog.append_once``.
    """
    issued, expires = time_of(statement.issued), time_of(statement.expires)
    if statement.issuer != key.public.id or not key.public.covers(issued, expires):
        raise FailedPrecondition(
            Reason.KEY_MISSING,
            f"The key {key.public.id} signs from {key.public.created} to {key.public.expires}; the statement names "
            f"{statement.issuer} and is valid from {statement.issued} to {statement.expires}. Make a new key, or "
            "shorten the statement's time.",
        )
    request, payload = statement.request, statement.fingerprint()
    event = log.append_once(
        request=request, type=ISSUED, actor=actor, payload=payload, superseding=superseding
    )
    inclusion = prove(itertools.islice(log.read(), event.seq + 1), event.seq)
    unsigned = Certificate(statement=statement, inclusion=inclusion, signature="0" * 128)
    return unsigned.model_copy(update={"signature": key.sign(unsigned.message())})


def prove(events: Iterable[Event], index: int) -> Inclusion:
    """Build the proof that an event is among the events of a log, given from the first.

    Raises
    ------
    IndexError
        There is no such event.
    """
    leaves, last = leaves_of(events)
    path = [named(sibling) for sibling in merkle.inclusion_path(leaves, index)]
    head = last.hash if last else GENESIS
    tree = TreeHead(size=len(leaves), root=named(merkle.root_of(leaves)), head=head)
    return Inclusion(tree=tree, index=index, path=path)


def leaves_of(events: Iterable[Event]) -> tuple[list[bytes], Event | None]:
    """Return the leaf hash of each event, and the last event; None for no events."""
    leaves, last = [], None
    for last in events:
        leaves.append(leaf_of(last))
    return leaves, last


def leaf_of(event: Event) -> bytes:
    """Return the hash, 32 bytes, of an event as a leaf of the tree."""
    return merkle.leaf_hash(event.body())


def raw(digest: str) -> bytes:
    """Return the 32 bytes of ``sha256:<hex>``."""
    return bytes.fromhex(digest.removeprefix("sha256:"))


def named(hash: bytes) -> str:
    """Return ``sha256:<hex>`` of 32 bytes."""
    return f"sha256:{hash.hex()}"
