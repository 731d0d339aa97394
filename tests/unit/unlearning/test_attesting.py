"""Certificates of requests, found again."""

import pytest

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
