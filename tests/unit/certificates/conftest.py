"""An issuer with a key, a log with events before and after a certificate, and everything as files."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from palimpsest.certificates import (
    COVERAGE,
    LIMITATIONS,
    Certificate,
    Check,
    EventLog,
    KeyStore,
    Method,
    Statement,
    decimal_text,
    issue,
    read_events,
    verify,
)
from palimpsest.certificates.canonical import digest
from palimpsest.certificates.records import time_text
from palimpsest.errors import DataLoss, Reason

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REQUEST = "removals/r-17"


def statement_fields(issuer: str, **changed: Any) -> dict[str, Any]:
    """A whole statement as plain data."""
    configuration = {"algorithm": {"beta": decimal_text(0.1), "steps": 40}, "retain": ["news", "books"]}
    judged = {"value": "3.5", "reference": "4", "bound": "9", "n": 20, "verdict": "passed"}
    fields = {
        "version": 1,
        "request": REQUEST,
        "manifest": {"digest": digest(b"manifest"), "counts": {"documents": 3, "tokens": 1200}},
        "models": {name: digest(name.encode()) for name in ("before", "after", "base", "tokenizer")},
        "method": Method.make("npo_gdr", configuration).model_dump(),
        "run": {"code": "0.1.0+g1234567", "seeds": {"order": 7}, "hardware": "cpu-x86_64-float32"},
        "reference": "retrained",
        "metrics": [
            {
                "name": "verbatim_rouge_l",
                "split": "forget",
                "value": "12.25",
                "low": "9.5",
                "high": "15",
                "confidence": "0.95",
                "n": 40,
                "reference": "11.75",
            }
        ],
        "attacks": {
            "precisions": ["float32", "int8"],
            "coverage": COVERAGE,
            "results": [
                {"name": "relearn", "precision": "float32", "metric": "verbatim", **judged},
                {"name": "quantize", "precision": "int8", "metric": "verbatim", **judged},
            ],
        },
        "stores": [
            {"name": "corpora/c", "kind": "corpus", "purged": 3, "absent": True, "evidence": digest(b"e")}
        ],
        "earlier_requests": [
            {
                "request": "removals/r-16",
                "metric": "verbatim",
                "then": "10",
                "now": "10.5",
                "verdict": "passed",
            }
        ],
        "criteria": [
            {"name": "C1", "value": "12.25", "comparison": "<=", "bound": "15", "verdict": "passed"}
        ],
        "outcome": "succeeded",
        "limitations": LIMITATIONS,
        "issuer": issuer,
        "issued": time_text(NOW),
        "expires": time_text(NOW + timedelta(days=100)),
    }
    return fields | changed


def append_some(log: EventLog, count: int, request: str = REQUEST) -> None:
    for at in range(count):
        log.append(request=request, type="STAGE_ENDED", actor="local", payload=digest(b"%d" % at), now=NOW)


@dataclass
class Issued:
    """Files of one issued certificate, and how to verify them."""

    certificate: Path
    log: Path
    key: Path
    store: KeyStore

    def checks(self, now: datetime = NOW, **more: Any) -> dict[str, Check]:
        return {check.name: check for check in verify(self.certificate, self.log, [self.key], now, **more)}

    def failed(self, now: datetime = NOW, **more: Any) -> set[str]:
        return {name for name, check in self.checks(now, **more).items() if not check.ok}

    def read(self) -> Certificate:
        return Certificate.parse(self.certificate.read_bytes())


def issue_into(folder: Path, before: int = 4, after: int = 2) -> Issued:
    store = KeyStore(folder / "keys")
    stored = store.new(NOW - timedelta(days=1), 365)
    log = EventLog(folder / "audit.jsonl")
    append_some(log, before)
    statement = Statement.of(statement_fields(stored.public.id))
    certificate = issue(statement, log, store.signing(NOW), actor="local")
    append_some(log, after, "removals/r-18")
    file = folder / "certificate.json"
    file.write_bytes(certificate.to_bytes())
    return Issued(file, log.path, stored.file, store)


@pytest.fixture
def issued(tmp_path: Path) -> Issued:
    return issue_into(tmp_path)


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log" / "audit.jsonl")


def lines(log: EventLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def broken(path: Path) -> bool:
    try:
        list(read_events(path))
    except DataLoss as error:
        return error.reason == Reason.LOG_CHAIN_BROKEN
    return False
