"""``palimpsest unlearn``: certificates verified from files, keys made and revoked."""

import json

import pytest
from typer.testing import CliRunner

from palimpsest import cli
from palimpsest.certificates import KeyStore
from palimpsest.cli.output.exits import Exit
from tests.unit.certificates import conftest
from tests.unit.certificates.conftest import issue_into

run = CliRunner().invoke


@pytest.fixture
def issued(tmp_path, monkeypatch):
    """Issued now: the command's clock is the machine's."""
    from datetime import UTC, datetime

    monkeypatch.setattr(conftest, "NOW", datetime.now(UTC).replace(microsecond=0))
    return issue_into(tmp_path)


def words(issued, *more):
    files = [issued.certificate, "--log", issued.log, "--key", issued.key]
    return [str(word) for word in ("unlearn", "verify", *files, *more)]


def test_a_valid_certificate(issued):
    done = run(cli.app, words(issued))
    assert done.exit_code == Exit.OK, done.output
    assert "The certificate is valid." in done.stdout
    assert "FAILED" not in done.stdout
    assert "--revoked" in done.stderr
    found = json.loads(run(cli.app, words(issued, "--json")).stdout)
    assert found["valid"] is True
    assert [check["name"] for check in found["checks"]][:2] == ["schema", "key"]


def test_a_changed_certificate(issued):
    data = issued.certificate.read_bytes()
    issued.certificate.write_bytes(data.replace(b'"outcome":"succeeded"', b'"outcome":"partial"'))
    done = run(cli.app, words(issued))
    assert done.exit_code == Exit.FAILED
    assert "NOT VALID: 2 checks failed." in done.stdout
    done = run(cli.app, words(issued, "--json"))
    assert done.exit_code == Exit.FAILED
    checks = json.loads(done.stdout)["checks"]
    assert {check["name"] for check in checks if not check["ok"]} == {"signature", "event"}


def test_files_that_are_missing(issued, tmp_path):
    issued.log.unlink()
    done = run(cli.app, words(issued))
    assert done.exit_code == Exit.NOT_FOUND
    assert "audit.jsonl" in done.stderr
    assert run(cli.app, ["unlearn", "verify", str(issued.certificate)]).exit_code == Exit.USAGE


def test_keys_are_made_listed_and_revoked(issued):
    folder = ["--folder", str(issued.store.folder)]
    made = json.loads(run(cli.app, ["unlearn", "keys", "new", *folder, "--days", "30", "--json"]).stdout)
    assert made["state"] == "usable"
    listed = run(cli.app, ["unlearn", "keys", "list", *folder])
    assert made["id"] in listed.stdout
    old = KeyStore(issued.store.folder).stored()[0].public.id
    done = run(cli.app, ["unlearn", "keys", "revoke", old, *folder, "--reason", "stolen"])
    assert done.exit_code == Exit.OK, done.output
    states = json.loads(run(cli.app, ["unlearn", "keys", "list", *folder, "--json"]).stdout)
    assert [key["state"] for key in states] == ["revoked", "usable"]
    done = run(cli.app, words(issued, "--revoked", issued.store.folder / "revoked.json"))
    assert done.exit_code == Exit.FAILED
    assert "stolen" in done.stdout
    missing = run(cli.app, ["unlearn", "keys", "revoke", "0" * 64, *folder, "--json"])
    assert missing.exit_code == Exit.NOT_FOUND
    assert json.loads(missing.stderr)["error"]["reason"] == "KEY_NOT_FOUND"


PLAN = ["--model", "m", "--new-model", "n", "--algorithm", "ga"]


@pytest.mark.parametrize("command", ["preview", "submit"])
def test_what_needs_no_server_is_checked_before_one_is_started(tmp_path, monkeypatch, command):
    monkeypatch.setenv("PALIMPSEST_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PALIMPSEST_SERVER", "")
    forget = tmp_path / "forget.jsonl"
    words = ["unlearn", command, *PLAN, "--forget", str(forget)]
    done = run(cli.app, words)
    assert done.exit_code == Exit.NOT_FOUND
    assert "forget.jsonl" in done.stderr
    forget.write_text('{"id": "a", "text": "b"}\n')
    for option, value in (("--set", "beta"), ("--purge", "corpora/x")):
        done = run(cli.app, [*words, option, value])
        assert done.exit_code == Exit.USAGE
        assert value in done.stderr
    assert not (tmp_path / "state").exists()
