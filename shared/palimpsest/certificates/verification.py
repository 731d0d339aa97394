"""Verification: everything that must hold for a certificate to be believed, from files alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from palimpsest.certificates import merkle
from palimpsest.certificates.certificate import (
    ISSUED,
    LARGEST_CHECKPOINT,
    Certificate,
    Checkpoint,
    TreeHead,
    leaf_of,
    named,
)
from palimpsest.certificates.events import Event
from palimpsest.certificates.keys import PublicKey
from palimpsest.certificates.log import read_events
from palimpsest.certificates.records import time_of, time_text
from palimpsest.certificates.revocation import LARGEST_FILE, RevocationList
from palimpsest.errors import DataLoss, InvalidArgument

CHECKS = (
    "schema", "key", "key period", "signature", "revocation", "issue", "expiry",
    "log chain", "log root", "log digest", "inclusion", "event", "checkpoints",
)  # fmt: skip
"""Names of the checks, in the order in which ``verify`` gives them."""
CLOCK_SKEW = timedelta(minutes=5)
"""How far the issuer's clock may be ahead of the verifier's."""


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed, and what was found or why not."""

    name: str
    ok: bool
    found: str


class _Failed(Exception):
    """A check that did not pass; the message says why."""


@dataclass(frozen=True)
class _Log:
    """A log as it was read: leaf hashes and event hashes, and the one event that a certificate names."""

    leaves: list[bytes]
    hashes: list[str]
    event: Event | None

    def check_root(self, tree: TreeHead) -> None:
        self._check_size(tree)
        if named(merkle.root_of(self.leaves[: tree.size])) != tree.root:
            raise _Failed(f"the first {tree.size} events of the log have another Merkle root")

    def check_head(self, tree: TreeHead) -> None:
        self._check_size(tree)
        if self.hashes[tree.size - 1] != tree.head:
            raise _Failed(f"event {tree.size - 1} of the log has another hash")

    def _check_size(self, tree: TreeHead) -> None:
        if not 0 < tree.size <= len(self.leaves):
            raise _Failed(f"the log has {len(self.leaves)} events, and should have {tree.size} at least")


def verify(
    certificate: Path,
    log: Path,
    keys: Sequence[Path],
    now: datetime,
    *,
    revoked: Path | None = None,
    checkpoints: Path | None = None,
) -> list[Check]:
    """Verify a certificate; it is to be believed only if every check passed (``all(check.ok for check in ...)``).

    Nothing but the files is read: no server, no private key. What a certificate states is not measured again.

    Parameters
    ----------
    certificate, log
        The certificate's file, and the audit log or a copy that is at least as long as the certificate says.
    keys
        Public key files that the verifier trusts.
    now
        The verifier's time.
    revoked
        The revocation list, which must exist if it is named. Without one no revocation is known.
    checkpoints
        JSON lines of checkpoints, if any were kept: the log must contain what each describes.

    Raises
    ------
    OSError
        A file cannot be read.
    FailedPrecondition
        SERVICES_MISSING: the package cryptography is not installed.
    """
    data = certificate.read_bytes()
    run = _Verification(log, keys, now, revoked, checkpoints)
    try:
        run.certificate = Certificate.parse(data)
    except InvalidArgument as error:
        rest = (Check(name, False, "not checked: the certificate cannot be read") for name in CHECKS[1:])
        return [Check("schema", False, error.message), *rest]
    found = [Check("schema", True, f"certificate of {run.certificate.statement.request}")]
    return found + [run.check(name) for name in CHECKS[1:]]


class _Verification:
    """One run of the checks over one set of files."""

    certificate: Certificate

    def __init__(
        self, log: Path, keys: Sequence[Path], now: datetime, revoked: Path | None, checkpoints: Path | None
    ) -> None:
        self._path, self._now = log, now
        self._key_files, self._revoked, self._checkpoints = keys, revoked, checkpoints
        self._keys: dict[str, PublicKey] = {}
        self._log: _Log | None = None

    def check(self, name: str) -> Check:
        """Make one check."""
        checks: dict[str, Callable[[], str]] = {
            "key": self._key,
            "key period": self._key_period,
            "signature": self._signature,
            "revocation": self._revocation,
            "issue": self._issue,
            "expiry": self._expiry,
            "log chain": self._log_chain,
            "log root": self._log_root,
            "log digest": self._log_digest,
            "inclusion": self._inclusion,
            "event": self._event,
            "checkpoints": self._kept_checkpoints,
        }
        try:
            return Check(name, True, checks[name]())
        except (_Failed, InvalidArgument, DataLoss) as error:
            return Check(name, False, error.args[0])

    def _key(self) -> str:
        # All are read, and a damaged one fails the check: nobody should trust half of a set of keys.
        self._keys = {key.id: key for key in [PublicKey.read(file.read_bytes()) for file in self._key_files]}
        return f"signed by {self._issuer().id}"

    def _issuer(self, id: str | None = None) -> PublicKey:
        id = id or self.certificate.statement.issuer
        if id not in self._keys:
            raise _Failed(f"{id} is none of the keys given")
        return self._keys[id]

    def _key_period(self) -> str:
        key, statement = self._issuer(), self.certificate.statement
        if not key.covers(time_of(statement.issued), time_of(statement.expires)):
            raise _Failed(f"the key signs from {key.created} to {key.expires} only")
        if self._now >= time_of(key.expires):
            raise _Failed(f"the key expired at {key.expires}")
        return f"the key signs from {key.created} to {key.expires}"

    def _signature(self) -> str:
        if not self._issuer().verifies(self.certificate.signature, self.certificate.message()):
            raise _Failed("the signature is not the key's, or the certificate was changed")
        return "Ed25519, over statement and proof"

    def _revocation(self) -> str:
        if self._revoked is None:
            return "no revocation list was given"
        found = RevocationList.parse(self._revoked.read_bytes(), max_bytes=LARGEST_FILE)
        statement = self.certificate.statement
        for what, id in (("key", statement.issuer), ("certificate", statement.fingerprint())):
            if entry := found.find(id):
                raise _Failed(f"the {what} was revoked at {entry.time}: {entry.reason}")
        return f"neither key nor certificate is among {len(found.revoked)} revoked"

    def _issue(self) -> str:
        issued = self.certificate.statement.issued
        if time_of(issued) > self._now + CLOCK_SKEW:
            raise _Failed(f"issued at {issued}, which is still to come: it is {time_text(self._now)}")
        return f"issued at {issued}"

    def _expiry(self) -> str:
        expires = self.certificate.statement.expires
        if self._now >= time_of(expires):
            raise _Failed(f"expired at {expires}")
        return f"valid until {expires}"

    def _log_chain(self) -> str:
        leaves, hashes, named_event = [], [], None
        for event in read_events(self._path):
            leaves.append(leaf_of(event))
            hashes.append(event.hash)
            if event.seq == self.certificate.inclusion.index:
                named_event = event
        self._log = _Log(leaves, hashes, named_event)
        return f"{len(leaves)} events, each after the one before"

    def _read_log(self) -> _Log:
        if self._log is None:
            raise _Failed("not checked: the log's chain is broken")
        return self._log

    def _log_root(self) -> str:
        tree = self.certificate.inclusion.tree
        self._read_log().check_root(tree)
        return f"Merkle root of the first {tree.size} events"

    def _log_digest(self) -> str:
        tree = self.certificate.inclusion.tree
        self._read_log().check_head(tree)
        return f"hash of event {tree.size - 1}"

    def _inclusion(self) -> str:
        inclusion = self.certificate.inclusion
        event = self._event_named()
        if not inclusion.leads_from(leaf_of(event)):
            raise _Failed(f"the proof does not lead from event {event.seq} to the root")
        return f"event {event.seq} of {inclusion.tree.size}, {len(inclusion.path)} hashes"

    def _event_named(self) -> Event:
        event = self._read_log().event
        if event is None:
            raise _Failed(f"the log has no event {self.certificate.inclusion.index}")
        return event

    def _event(self) -> str:
        event, statement = self._event_named(), self.certificate.statement
        if (event.request, event.type, event.payload) != (statement.request, ISSUED, statement.fingerprint()):
            raise _Failed(f"event {event.seq} is not the issue of this certificate")
        return f"{event.type} for {event.request}"

    def _kept_checkpoints(self) -> str:
        if self._checkpoints is None:
            return "no checkpoints were given"
        count = 0
        with self._checkpoints.open("rb") as file:
            while line := file.readline(LARGEST_CHECKPOINT + 1):
                kept = Checkpoint.parse(line, max_bytes=LARGEST_CHECKPOINT)
                if not self._issuer(kept.issuer).verifies(kept.signature, kept.message()):
                    raise _Failed(f"checkpoint {count} does not have its key's signature")
                self._read_log().check_root(kept.tree)
                self._read_log().check_head(kept.tree)
                count += 1
        return f"the log contains what {count} checkpoints describe"
