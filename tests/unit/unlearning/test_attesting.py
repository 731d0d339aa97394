"""Certificates of requests, found again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from palimpsest.certificates import verify
from palimpsest.certificates.key_store import REVOKED
from palimpsest.certificates.records import time_of
from palimpsest.errors import NotFound, Reason
from palimpsest.settings import Settings
from services.unlearning.attesting import Attestation
from tests.unit.certificates.conftest import statement_fields

GIVEN = {"version", "request", "limitations", "issuer", "issued", "expires"}


def test_a_certificate_whose_public_key_is_gone_is_told_and_no_bug(tmp_path):
    attestation = Attestation(Settings(state_dir=tmp_path), "local")
    facts = {key: value for key, value in statement_fields("sha256:" + "0" * 64).items() if key not in GIVEN}
    made = attestation.issue("vault", facts)
    found = attestation.find("vault")
    assert found is not None
    assert found.certificate == made.to_bytes()
    for key in attestation.keys.stored():
        key.file.unlink()
    with pytest.raises(NotFound) as refused:
        attestation.find("vault")
    assert refused.value.reason == Reason.KEY_NOT_FOUND
    assert attestation.find("another") is None


def facts_of(**changed: Any) -> dict[str, Any]:
    given = statement_fields("sha256:" + "0" * 64, **changed)
    return {key: value for key, value in given.items() if key not in GIVEN}


def valid(attestation: Attestation, folder: Path, data: bytes) -> bool:
    (folder / "certificate").write_bytes(data)
    revoked = attestation.keys.folder / REVOKED
    checks = verify(
        folder / "certificate", attestation.log.path, [key.file for key in attestation.keys.stored()],
        datetime.now(UTC), revoked=revoked if revoked.exists() else None,
    )  # fmt: skip
    return all(check.ok for check in checks)


def rotated(attestation: Attestation) -> str:
    """Make a new key, as an operator does; returns its id. A second later, or the two would be of one age."""
    (old,) = attestation.keys.stored()
    return attestation.keys.new(time_of(old.public.created) + timedelta(seconds=1), 730).public.id


@pytest.mark.parametrize("reached", ["statement", "event", "certificate"])
@pytest.mark.parametrize("revoked", [False, True])
def test_what_was_begun_under_another_key_is_signed_by_the_key_in_force(tmp_path, reached, revoked):
    """An attempt may end before its event is written, before its certificate is, or before anybody is told."""
    attestation = Attestation(Settings(state_dir=tmp_path), "local")
    first = attestation.issue("vault", facts_of())
    log, certificate = attestation.log.path, tmp_path.glob("unlearning/audit/*/vault.certificate.json")
    if reached != "certificate":
        next(certificate).unlink()
    if reached == "statement":
        log.write_bytes(b"")
    (old,) = attestation.keys.stored()
    new = rotated(attestation)
    if revoked:
        attestation.keys.revoke(old.public.id, "stolen", datetime.now(UTC))
    second = attestation.issue("vault", facts_of())
    assert second.statement.issuer == new
    assert second.statement.metrics == first.statement.metrics
    assert valid(attestation, tmp_path, second.to_bytes())
    assert not valid(attestation, tmp_path, first.to_bytes())
    found = attestation.find("vault")
    assert found is not None
    assert found.certificate == second.to_bytes()
    # Once more, after a crash that came too late to matter: nothing changes.
    size = log.stat().st_size
    assert attestation.issue("vault", facts_of()).statement == second.statement
    assert log.stat().st_size == size


def test_a_statement_of_another_model_or_version_is_made_again(tmp_path):
    attestation = Attestation(Settings(state_dir=tmp_path), "local")
    first = attestation.issue("vault", facts_of())
    models = {**facts_of()["models"], "after": "sha256:" + "7" * 64}
    second = attestation.issue("vault", facts_of(models=models))
    assert second.statement.models.after == models["after"]
    assert valid(attestation, tmp_path, second.to_bytes())
    assert not valid(attestation, tmp_path, first.to_bytes())
    (kept,) = tmp_path.glob("unlearning/audit/*/vault.statement.json")
    kept.write_bytes(kept.read_bytes().replace(b'"version":1', b'"version":0'))
    third = attestation.issue("vault", facts_of(models=models))
    assert valid(attestation, tmp_path, third.to_bytes())
