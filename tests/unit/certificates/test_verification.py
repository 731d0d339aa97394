"""Certificates from files: valid as issued, and not after any change to any of the files."""

import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.certificates import (
    CHECKS,
    Certificate,
    Checkpoint,
    EventLog,
    KeyStore,
    RevocationList,
    SigningKey,
    Statement,
    issue,
    verify,
)
from palimpsest.certificates.canonical import digest
from palimpsest.errors import AlreadyExists, FailedPrecondition, InvalidArgument, Reason
from tests.unit.certificates.conftest import NOW, REQUEST, append_some, issue_into, statement_fields

DAY = timedelta(days=1)


def flipped(data: bytes, at: int, mask: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= mask
    return bytes(changed)


def test_a_certificate_as_issued_passes_every_check(issued):
    checks = issued.checks()
    assert tuple(checks) == CHECKS
    assert not [check for check in checks.values() if not check.ok]
    assert issued.checks(NOW + 99 * DAY)["expiry"].ok


def test_verification_needs_nothing_but_copies_of_the_files(issued, tmp_path):
    folder = tmp_path / "verifier"
    folder.mkdir()
    files = (issued.certificate, issued.log, issued.key)
    certificate, log, key = (Path(shutil.copy(file, folder)) for file in files)
    shutil.rmtree(issued.store.folder)
    log.chmod(0o400)
    assert all(check.ok for check in verify(certificate, log, [key], NOW))
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("what", ["certificate", "log", "key"])
def test_every_flipped_byte_is_noticed(tmp_path, what):
    issued = issue_into(tmp_path, before=2, after=1)
    file = getattr(issued, what)
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(flipped(whole, at, at * 37 % 255 + 1))
        assert issued.failed(), at
    file.write_bytes(whole)
    assert not issued.failed()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return issue_into(tmp_path_factory.mktemp("issued"))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    what=st.sampled_from(["certificate", "log", "key"]),
    where=st.floats(0, 1, exclude_max=True),
    mask=st.integers(1, 255),
)
def test_any_flipped_byte_is_noticed(shared, what, where, mask):  # fmt: skip
    file = getattr(shared, what)
    whole = file.read_bytes()
    try:
        file.write_bytes(flipped(whole, int(where * len(whole)), mask))
        assert shared.failed()
    finally:
        file.write_bytes(whole)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(what=st.sampled_from(["certificate", "log", "key"]), data=st.data())
def test_any_cut_insertion_or_deletion_is_noticed(shared, what, data):
    file = getattr(shared, what)
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["cut", "insert", "delete"]))
    if kind == "cut" and what == "log":
        at = data.draw(
            st.integers(0, shared.read().inclusion.tree.size * 100)
        )  # within what it was issued on
    changed = {
        "cut": whole[:at],
        "insert": whole[:at] + data.draw(st.binary(min_size=1, max_size=3)) + whole[at:],
        "delete": whole[:at] + whole[at + 1 :],
    }[kind]
    try:
        file.write_bytes(changed)
        assert changed == whole or shared.failed()
    finally:
        file.write_bytes(whole)


# ---- each check fails for its own reason, and for no other


def test_another_key_of_the_same_issuer(issued):
    other = issued.store.new(NOW, 365)
    found = {
        check.name for check in verify(issued.certificate, issued.log, [other.file], NOW) if not check.ok
    }
    assert found == {"key", "key period", "signature"}
    both = verify(issued.certificate, issued.log, [other.file, issued.key], NOW)
    assert all(check.ok for check in both)


def resigned(issued, key: SigningKey | None = None, **changed):
    """A certificate changed by somebody who can sign, but not change the log."""
    found = issued.read().model_copy(update=changed)
    key = key or issued.store.signing(NOW)
    found = found.model_copy(update={"signature": key.sign(found.message())})
    issued.certificate.write_bytes(found.to_bytes())
    return issued.failed()


def test_a_signature_by_another_key(issued, tmp_path):
    assert resigned(issued, SigningKey.generate(NOW, 365)) == {"signature"}


def test_a_changed_statement_is_not_in_the_log(issued):
    key = issued.store.signing(NOW)
    statement = Statement.of(statement_fields(key.public.id, outcome="partial"))
    assert resigned(issued, statement=statement) == {"event"}


def test_a_statement_of_another_request(issued):
    key = issued.store.signing(NOW)
    statement = Statement.of(statement_fields(key.public.id, request="removals/other"))
    assert resigned(issued, statement=statement) == {"event"}


@pytest.mark.parametrize(
    ("field", "failed"),
    [("root", {"log root", "inclusion"}), ("head", {"log digest"})],
)
def test_a_changed_tree_head(issued, field, failed):
    inclusion = issued.read().inclusion
    tree = inclusion.tree.model_copy(update={field: digest(b"other")})
    assert resigned(issued, inclusion=inclusion.model_copy(update={"tree": tree})) == failed


def test_a_proof_without_its_path(issued):
    assert resigned(issued, inclusion=issued.read().inclusion.model_copy(update={"path": []})) == {
        "inclusion"
    }


def test_a_proof_of_another_event(issued):
    inclusion = issued.read().inclusion.model_copy(update={"index": 1})
    assert resigned(issued, inclusion=inclusion) == {"inclusion", "event"}


def test_a_log_that_was_never_written_to(issued):
    lines = issued.log.read_bytes().splitlines(keepends=True)
    index = issued.read().inclusion.index
    issued.log.write_bytes(b"".join(lines[:index]))
    assert issued.failed() == {"log root", "log digest", "inclusion", "event"}


def test_a_log_rewritten_with_a_good_chain(issued, tmp_path):
    """Somebody who can write the log, and knows how, but has no key."""
    forged = EventLog(tmp_path / "forged.jsonl")
    for event in EventLog(issued.log).read():
        request = "removals/innocent" if event.seq == 1 else event.request
        forged.append(request=request, type=event.type, actor=event.actor, payload=event.payload, now=NOW)
    issued.log.write_bytes(forged.path.read_bytes())
    assert issued.failed() == {"log root", "log digest", "inclusion"}


def test_time(issued):
    assert issued.failed(NOW + 100 * DAY) == {"expiry"}
    assert issued.failed(NOW + 100 * DAY - timedelta(seconds=1)) == set()
    assert issued.failed(NOW - timedelta(minutes=4)) == set()
    assert issued.failed(NOW - timedelta(hours=1)) == {"issue"}
    assert issued.failed(NOW + 364 * DAY) == {"key period", "expiry"}


def test_a_certificate_that_outlives_its_key(issued):
    key = issued.store.signing(NOW)
    late = Statement.of(statement_fields(key.public.id, expires="2027-03-01T00:00:00Z"))
    assert resigned(issued, statement=late) == {"key period", "event"}


def test_revocation(issued, tmp_path):
    listed = tmp_path / "revoked.json"
    RevocationList(version=1, revoked=[]).adding(digest(b"another"), "lost", NOW).save(listed)
    assert issued.failed(revoked=listed) == set()
    statement = issued.read().statement
    for id in (statement.issuer, statement.fingerprint()):
        RevocationList(version=1, revoked=[]).adding(id, "compromised", NOW).save(listed)
        assert issued.failed(revoked=listed) == {"revocation"}
    assert "compromised" in issued.checks(revoked=listed)["revocation"].found
    listed.write_bytes(b"{}\n")
    assert issued.failed(revoked=listed) == {"revocation"}
    with pytest.raises(FileNotFoundError):
        issued.checks(revoked=tmp_path / "missing.json")


def test_revoking_through_the_store(issued):
    issued.store.revoke(issued.read().statement.issuer, "stolen", NOW)
    assert issued.failed(revoked=issued.store.folder / "revoked.json") == {"revocation"}


def test_certificates_outlive_the_rotation_of_keys(issued):
    log, old = EventLog(issued.log), issued.key
    stored = issued.store.new(NOW, 365)
    statement = Statement.of(statement_fields(stored.public.id, request="removals/later"))
    later = issue(statement, log, issued.store.signing(NOW), actor="local")
    file = issued.certificate.with_name("later.json")
    file.write_bytes(later.to_bytes())
    for certificate in (issued.certificate, file):
        assert all(check.ok for check in verify(certificate, issued.log, [old, stored.file], NOW))
    assert not issued.failed()


# ---- checkpoints


def test_a_checkpoint_tells_of_events_cut_off_after_the_certificate(issued, tmp_path):
    kept = tmp_path / "checkpoints.jsonl"
    key = issued.store.signing(NOW)
    first = Checkpoint.make(EventLog(issued.log), key, NOW)
    whole = issued.log.read_bytes()
    append_some(EventLog(issued.log), 2)
    for checkpoint in (first, Checkpoint.make(EventLog(issued.log), key, NOW)):
        checkpoint.append_to(kept)
    assert issued.failed(checkpoints=kept) == set()
    issued.log.write_bytes(whole)
    assert issued.failed() == set()  # nothing else tells
    assert issued.failed(checkpoints=kept) == {"checkpoints"}
    kept.write_bytes(first.to_bytes())
    assert issued.failed(checkpoints=kept) == set()
    data = first.to_bytes()
    for at in range(len(data)):
        kept.write_bytes(flipped(data, at, at % 255 + 1))
        assert issued.failed(checkpoints=kept) == {"checkpoints"}, at


def test_there_is_no_checkpoint_of_nothing(tmp_path):
    with pytest.raises(FailedPrecondition) as refused:
        Checkpoint.make(EventLog(tmp_path / "audit.jsonl"), SigningKey.generate(NOW, 1), NOW)
    assert refused.value.reason == Reason.LOG_EMPTY


# ---- issuing


def test_issuing_again_after_a_crash_gives_the_same_certificate(issued):
    again = issue(issued.read().statement, EventLog(issued.log), issued.store.signing(NOW), actor="local")
    assert again.to_bytes() == issued.certificate.read_bytes()
    assert [event.type for event in EventLog(issued.log).read()].count("CERTIFICATE_ISSUED") == 1


def test_a_request_has_one_certificate(issued):
    key = issued.store.signing(NOW)
    other = Statement.of(statement_fields(key.public.id, outcome="partial"))
    with pytest.raises(AlreadyExists):
        issue(other, EventLog(issued.log), key, actor="local")


@pytest.mark.parametrize("changed", [{"expires": "2028-01-01T00:00:00Z"}, {"issuer": digest(b"x")}], ids=str)
def test_a_key_signs_only_for_itself_and_its_time(issued, changed):
    key = issued.store.signing(NOW)
    fields = statement_fields(key.public.id, request="removals/other") | changed
    size = issued.log.stat().st_size
    with pytest.raises(FailedPrecondition):
        issue(Statement.of(fields), EventLog(issued.log), key, actor="local")
    assert issued.log.stat().st_size == size


def test_a_certificate_of_a_later_version_is_not_guessed_at(issued):
    data = issued.certificate.read_bytes().replace(b'"version":1', b'"version":2')
    issued.certificate.write_bytes(data)
    assert issued.failed() == set(CHECKS)
    assert "version" in issued.checks()["schema"].found


@settings(derandomize=True, max_examples=200)
@given(data=st.binary(max_size=60))
def test_other_bytes_are_no_certificate(data):
    with pytest.raises(InvalidArgument):
        Certificate.parse(data)


def test_importing_costs_no_cryptography():
    code = "import sys, palimpsest.certificates, palimpsest.cli; print([m for m in %r if m in sys.modules])"
    heavy = ["cryptography", "torch", "numpy", "celery", "redis"]
    done = subprocess.run([sys.executable, "-c", code % heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_request_names_agree(issued):
    assert issued.checks()["event"].found.endswith(REQUEST)
    assert KeyStore(issued.store.folder).stored()[0].public.id == issued.read().statement.issuer
