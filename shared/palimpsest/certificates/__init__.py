"""The audit log of removal requests, and certificates that anybody can verify from files.

::

    EventLog      an append-only file of events, each with the hash of the one before
    PayloadStore  what events are about: encrypted by subject, so that destroying a key shreds the data and not the log
    KeyStore      Ed25519 keys of the issuer: new ones, the current one, revoked ones
    issue         a Statement becomes a Certificate: its digest in the log, proof of that, a signature over both
    Checkpoint    a signed statement of the log's length and content
    verify        the named checks that a certificate must pass

A certificate attests a process and its measurements. It does not prove erasure: many sets of training data could have
produced the same weights.

The Merkle tree is RFC 6962's, signatures are Ed25519 (RFC 8032), encryption is AES-256-GCM, canonical JSON is a subset
of RFC 8785. Imports neither torch nor grpc, and ``cryptography`` only where something is signed, verified or encrypted.
"""

from palimpsest.certificates.canonical import canonical, decimal_text
from palimpsest.certificates.certificate import Certificate, Checkpoint, Inclusion, TreeHead, issue
from palimpsest.certificates.events import Event
from palimpsest.certificates.key_store import KeyStore
from palimpsest.certificates.keys import PublicKey, SigningKey
from palimpsest.certificates.log import EventLog, read_events
from palimpsest.certificates.payloads import PayloadStore
from palimpsest.certificates.revocation import RevocationList
from palimpsest.certificates.statement import (
    COVERAGE,
    LIMITATIONS,
    Attack,
    Attacks,
    Criterion,
    Manifest,
    Method,
    Metric,
    Models,
    Recheck,
    Run,
    Statement,
    Store,
)
from palimpsest.certificates.verification import CHECKS, Check, verify

__all__ = [
    "CHECKS",
    "COVERAGE",
    "LIMITATIONS",
    "Attack",
    "Attacks",
    "Certificate",
    "Check",
    "Checkpoint",
    "Criterion",
    "Event",
    "EventLog",
    "Inclusion",
    "KeyStore",
    "Manifest",
    "Method",
    "Metric",
    "Models",
    "PayloadStore",
    "PublicKey",
    "Recheck",
    "RevocationList",
    "Run",
    "SigningKey",
    "Statement",
    "Store",
    "TreeHead",
    "canonical",
    "decimal_text",
    "issue",
    "read_events",
    "verify",
]
