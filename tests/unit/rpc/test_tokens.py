"""The tokens file: a damaged version changes nothing, and is told once."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from palimpsest.errors import FailedPrecondition, PermissionDenied, Reason, Unauthenticated
from palimpsest.rpc.auth import Authenticator, hash_token

READ = "/palimpsest.api.models.v1.ModelService/ListModels"
WRITE = "/palimpsest.api.models.v1.ModelService/RegisterModel"
ANN = {"name": "ann", "sha256": hash_token("ann"), "scopes": ["models.read"]}
BOB = {"name": "bob", "sha256": hash_token("bob"), "scopes": ["*"]}

DAMAGED = {
    "empty": "",
    "half written": json.dumps({"tokens": [ANN, BOB]})[:-40],
    "not UTF-8": b'{"tokens": [], "x": "\xff"}',
    "nested": "[" * 100_000,
    "a list": "[]",
    "no tokens": "{}",
    "tokens null": '{"tokens": null}',
    "an entry that is text": json.dumps({"tokens": [ANN, "bob"]}),
    "no hash": json.dumps({"tokens": [{"name": "ann", "scopes": ["*"]}]}),
    "null hash": json.dumps({"tokens": [{**ANN, "sha256": None}]}),
    "short hash": json.dumps({"tokens": [{**ANN, "sha256": "ab"}]}),
    "hash that is not ASCII": json.dumps({"tokens": [{**ANN, "sha256": "ä" * 64}]}),
    "hash in capitals": json.dumps({"tokens": [{**ANN, "sha256": hash_token("ann").upper()}]}),
    "no name": json.dumps({"tokens": [{"sha256": hash_token("ann")}]}),
    "empty name": json.dumps({"tokens": [{**ANN, "name": ""}]}),
    "blank name": json.dumps({"tokens": [{**ANN, "name": " "}]}),
    "name with a line break": json.dumps({"tokens": [{**ANN, "name": "ann\nbob"}]}),
    "long name": json.dumps({"tokens": [{**ANN, "name": "a" * 129}]}),
    "name that is a number": json.dumps({"tokens": [{**ANN, "name": 5}]}),
    "half a surrogate pair": json.dumps({"tokens": [{**ANN, "name": "\ud800"}]}),
    "scopes null": json.dumps({"tokens": [{**ANN, "scopes": None}]}),
    "scopes that are an object": json.dumps({"tokens": [{**ANN, "scopes": {"*": 1}}]}),
    "a scope that is a number": json.dumps({"tokens": [{**ANN, "scopes": ["models.read", 5]}]}),
    "expires as text": json.dumps({"tokens": [{**ANN, "expires": "2030-01-01"}]}),
    "expires as truth": json.dumps({"tokens": [{**ANN, "expires": True}]}),
    "expires that is no number": '{"tokens": [{"name": "a", "sha256": "%s", "expires": NaN}]}' % ("0" * 64),
    "misspelt expires": json.dumps({"tokens": [{**ANN, "expire": 1}]}),
    "one hash for two": json.dumps({"tokens": [ANN, {**BOB, "sha256": ANN["sha256"]}]}),
    "two names in one entry": '{"tokens": [{"name": "a", "name": "b", "sha256": "%s"}]}' % ("0" * 64),
}


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def write(path, *entries):
    path.write_text(json.dumps({"tokens": list(entries)}))


def spoil(path, content):
    """Replace a file, so that its inode is another one even where its size and times are the same."""
    other = path.with_name("other")
    other.write_bytes(content if isinstance(content, bytes) else content.encode())
    other.replace(path)


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "tokens.json", ANN, BOB)
    return tmp_path / "tokens.json"


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_version_leaves_the_last_good_one_in_force_and_is_told_once(path, content):
    authenticator = Authenticator(path)
    spoil(path, content)
    with capture_logs() as logs:
        for _ in range(3):
            assert authenticator.caller(READ, bearer("ann")).principal == "ann"
            with pytest.raises(PermissionDenied):
                authenticator.caller(WRITE, bearer("ann"))
            with pytest.raises(Unauthenticated):
                authenticator.caller(READ, bearer("eve"))
    assert [log["log_level"] for log in logs] == ["error"]
    assert logs[0]["file"] == str(path)
    assert logs[0]["problem"]
    write(path, BOB)
    with pytest.raises(Unauthenticated):
        authenticator.caller(READ, bearer("ann"))
    assert authenticator.caller(WRITE, bearer("bob")).principal == "bob"


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_server_does_not_start_with_a_damaged_file(path, content):
    spoil(path, content)
    with pytest.raises(FailedPrecondition, match="cannot be used: ") as caught:
        Authenticator(path)
    assert caught.value.reason == Reason.TOKENS_FILE


def test_a_missing_file_changes_nothing_until_there_is_one_again(path):
    authenticator = Authenticator(path)
    path.unlink()
    with capture_logs() as logs:
        for _ in range(3):
            assert authenticator.caller(READ, bearer("ann")).principal == "ann"
    assert [log["problem"] for log in logs] == ["it cannot be read: No such file or directory"]
    write(path, BOB)
    with pytest.raises(Unauthenticated):
        authenticator.caller(READ, bearer("ann"))
    path.unlink()
    with pytest.raises(FailedPrecondition, match="No such file"):
        Authenticator(path)


def test_a_folder_in_its_place_changes_nothing(path):
    authenticator = Authenticator(path)
    path.unlink()
    path.mkdir()
    assert authenticator.caller(READ, bearer("ann")).principal == "ann"


@contextlib.contextmanager
def without_privileges():
    """Nobody in particular: root may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_may_not_be_read_is_told_and_read_again_when_it_may():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "tokens.json")
        write(path, ANN)
        authenticator = Authenticator(path)
        write(path, BOB)
        path.chmod(0)
        with capture_logs() as logs, without_privileges():
            for _ in range(3):
                assert authenticator.caller(READ, bearer("ann")).principal == "ann"
        assert [log["problem"] for log in logs] == ["it cannot be read: Permission denied"]
        path.chmod(0o644)  # changes neither its size nor its modification time
        with pytest.raises(Unauthenticated), without_privileges():
            authenticator.caller(READ, bearer("ann"))


def test_an_edit_that_keeps_size_and_modification_time_is_noticed(path):
    write(path, ANN)
    authenticator, stat = Authenticator(path), path.stat()
    path.write_text(path.read_text().replace("ann", "eve"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert authenticator.caller(READ, bearer("ann")).principal == "eve"


@pytest.mark.parametrize("text", ["*", "models.read", "models.*", "abc", "impersonate", ""])
def test_scopes_as_text_grant_nothing_and_leave_the_rest_of_the_file_in_force(path, text):
    authenticator = Authenticator(path)
    write(path, {**ANN, "scopes": text})
    with capture_logs() as logs:
        for method in (READ, WRITE):
            with pytest.raises(PermissionDenied) as caught:
                authenticator.caller(method, bearer("ann"))
            assert caught.value.reason == Reason.SCOPE_MISSING
        with pytest.raises(Unauthenticated):
            authenticator.caller(READ, bearer("bob"))
    assert [log["log_level"] for log in logs] == ["error", "info"]
    assert logs[0]["place"] == "tokens[0].scopes ('ann')"
    assert not Authenticator(path)._file.tokens()[0].scopes


def test_what_a_file_may_leave_out(path):
    write(path, {"name": "ann", "sha256": hash_token("ann")}, {**BOB, "expires": None})
    authenticator = Authenticator(path)
    with pytest.raises(PermissionDenied):
        authenticator.caller(READ, bearer("ann"))
    assert authenticator.caller(WRITE, bearer("bob")).principal == "bob"
    write(path)
    with pytest.raises(Unauthenticated):
        authenticator.caller(WRITE, bearer("bob"))


def test_a_token_ends_at_its_time_while_a_damaged_version_lies_there(path, monkeypatch):
    write(path, {**ANN, "expires": 2_000_000_000.5})
    authenticator = Authenticator(path)
    path.write_text("{")
    assert authenticator.caller(READ, bearer("ann")).principal == "ann"
    monkeypatch.setattr("time.time", lambda: 2_000_000_001.0)
    with pytest.raises(Unauthenticated):
        authenticator.caller(READ, bearer("ann"))
