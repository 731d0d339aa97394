"""Audit log and certificates of an installation's removal requests.

Each principal has a log of its own, so that whoever verifies a certificate sees nobody else's requests. Keys are the
installation's: the newest usable one signs, and the first request makes one.
"""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from palimpsest.certificates.canonical import canonical, decimal_text, digest
from palimpsest.certificates.certificate import ISSUED, Certificate, issue
from palimpsest.certificates.files import replace
from palimpsest.certificates.key_store import REVOKED, KeyStore
from palimpsest.certificates.keys import SigningKey
from palimpsest.certificates.log import EventLog
from palimpsest.certificates.records import time_text
from palimpsest.certificates.revocation import RevocationList
from palimpsest.certificates.statement import COVERAGE, LIMITATIONS, Statement
from palimpsest.disk import room_for
from palimpsest.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Reason
from palimpsest.settings import Settings

KEY_DAYS, VALID_DAYS = 730, 365
"""Days that a key signs, and that a certificate is valid."""


@dataclass(frozen=True)
class Attested:
    """A certificate and what verifies it, as files."""

    certificate: bytes
    public_key: bytes
    revocations: bytes


class Attestation:
    """Log, keys and certificates of one principal's requests.

    Parameters
    ----------
    settings
        ``state_dir`` is shared by servers and workers.
    principal
        Whose.
    """

    def __init__(self, settings: Settings, principal: str) -> None:
        root = settings.state_dir / "unlearning"
        self._whose = root / "audit" / hashlib.sha256(principal.encode()).hexdigest()[:32]
        self._principal = principal
        self.keys = KeyStore(root / "keys")
        self.log = EventLog(self._whose / "log.jsonl")

    def note(self, removal_id: str, event: str, payload: str | None = None) -> None:
        """Append an event to the log.

        Raises
        ------
        DataLoss
            LOG_CHAIN_BROKEN.
        Unavailable
            LOG_BUSY.
        ResourceExhausted
            DISK_FULL.
        """
        self.log.append(request=removal_id, type=event, actor=self._principal[:128], payload=payload)

    def note_once(self, removal_id: str, event: str, payload: str) -> None:
        """Append an event that a request has once, whatever attempt comes to it; the errors are those of ``note``."""
        self.log.append_once(request=removal_id, type=event, actor=self._principal[:128], payload=payload)

    def note_changed(self, removal_id: str, event: str, payload: str) -> None:
        """Append an event unless it is there; one with another payload is of an attempt before, and is followed."""
        try:
            self.note_once(removal_id, event, payload)
        except AlreadyExists:
            self.note(removal_id, event, payload)

    def issue(self, removal_id: str, facts: Mapping[str, Any]) -> Certificate:
        """Sign a certificate and keep it; an attempt after a crash gets the one that was begun.

        What an attempt before has begun is signed again if the key in force is another one since, or if it states
        another model. Of what it may have signed by then nobody was told, and it is revoked: of the certificates of a
        request one is valid.

        Parameters
        ----------
        removal_id
            The request.
        facts
            The statement without issuer, times and fixed sentences.

        Raises
        ------
        InvalidArgument
            RECORD_INVALID: the facts are not those of a statement.
        DataLoss, Unavailable, ResourceExhausted
            As ``note``.
        """
        with room_for("a certificate and the key that signs it"):
            return self._issue(removal_id, facts)

    def _issue(self, removal_id: str, facts: Mapping[str, Any]) -> Certificate:
        key = self._signing_key()
        statement = self._begun(removal_id, facts, key)
        if statement is None:
            now = datetime.now(UTC).replace(microsecond=0)
            statement = Statement.of(
                {
                    **facts,
                    "version": 1,
                    "request": removal_id,
                    "limitations": LIMITATIONS,
                    "issuer": key.public.id,
                    "issued": time_text(now),
                    "expires": time_text(now + timedelta(days=VALID_DAYS)),
                }
            )
            kept = self._file(removal_id, "statement")
            kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace(kept, statement.to_bytes())
        actor = self._principal[:128]
        try:
            certificate = issue(statement, self.log, key, actor=actor)
        except AlreadyExists:
            self._revoke_others(removal_id, statement.fingerprint())
            certificate = issue(statement, self.log, key, actor=actor, superseding=True)
        replace(self._file(removal_id, "certificate"), certificate.to_bytes())
        return certificate

    def _begun(self, removal_id: str, facts: Mapping[str, Any], key: SigningKey) -> Statement | None:
        """The statement that an attempt before has left, if it can be signed as it is."""
        kept = self._file(removal_id, "statement")
        if not kept.exists():
            return None
        try:
            found = Statement.parse(kept.read_bytes())
        except InvalidArgument:  # of a version before, which stated other things
            return None
        same = found.models.after == facts["models"]["after"] and found.issuer == key.public.id
        return found if same else None

    def _revoke_others(self, removal_id: str, statement: str) -> None:
        """Revoke whatever the log has of a request's certificates but one."""
        for event in self.log.read():
            if (event.request, event.type) == (removal_id, ISSUED) and event.payload not in (None, statement):
                self.keys.revoke_certificate(event.payload, "superseded", datetime.now(UTC))

    def find(self, removal_id: str) -> Attested | None:
        """Return a request's certificate with its issuer's public key and list of revocations; None if it has none.

        Raises
        ------
        NotFound
            KEY_NOT_FOUND: the public key that verifies it is no longer among the installation's.
        """
        file = self._file(removal_id, "certificate")
        if not file.exists():
            return None
        data = file.read_bytes()
        issuer = Certificate.parse(data).statement.issuer
        public = next((each.file for each in self.keys.stored() if each.public.id == issuer), None)
        if public is None:
            raise NotFound(
                Reason.KEY_NOT_FOUND,
                f"{self.keys.folder} no longer has the key {issuer} that verifies the certificate of {removal_id}. "
                "Restore its public half from a backup.",
            )
        revoked = RevocationList.load(self.keys.folder / REVOKED)
        return Attested(data, public.read_bytes(), revoked.to_bytes())

    def revoke(self, removal_id: str) -> None:
        """Revoke a request's certificate; nothing happens without one."""
        file = self._file(removal_id, "certificate")
        if file.exists():
            statement = Certificate.parse(file.read_bytes()).statement
            self.keys.revoke_certificate(statement.fingerprint(), "rolled_back", datetime.now(UTC))

    def _signing_key(self) -> SigningKey:
        now = datetime.now(UTC)
        ends = now + timedelta(days=VALID_DAYS)
        try:
            key = self.keys.signing(now)
        except FailedPrecondition:
            key = None
        if key is None or not key.public.covers(now, ends):
            self.keys.new(now.replace(microsecond=0) - timedelta(seconds=1), KEY_DAYS)
            key = self.keys.signing(now)
        return key

    def _file(self, removal_id: str, what: str) -> Path:
        return self._whose / f"{removal_id}.{what}.json"


def evidence_digest(facts: Mapping[str, Any]) -> str:
    """Digest of facts as canonical JSON."""
    return digest(canonical(dict(facts)))


def number_text(value: float | None) -> str | None:
    """A number as certificates have it; None where it is not known or not finite."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return None
    return decimal_text(value)


def run_facts(seed: int, device: str) -> dict[str, Any]:
    """What a request ran on, for its certificate."""
    kind = "cuda" if device.startswith("cuda") else "cpu"
    return {
        "code": f"palimpsest-{version('palimpsest-lm')}",
        "seeds": {"training": seed},
        "hardware": f"{kind}-{platform.machine()}-float32",
    }


def attack_facts(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A table of attacks, for a certificate, which speaks of the precisions that something was measured at."""
    precisions = sorted({each["precision"] for each in results if each["verdict"] != "not_measured"})
    return {"precisions": precisions, "coverage": COVERAGE, "results": list(results)}
