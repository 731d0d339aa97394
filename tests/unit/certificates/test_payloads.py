"""Payloads with a person's data: readable with the key, gone without it, and the log none the wiser."""

import multiprocessing
import os
from pathlib import Path

import pytest

from palimpsest.certificates import EventLog, PayloadStore, read_events
from palimpsest.errors import DataLoss, NotFound, Reason

SECRET = b"Ada Lovelace lives at 12 St James's Square."
SUBJECT = "ada@example.org"
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path: Path) -> PayloadStore:
    return PayloadStore(tmp_path / "payloads")


def everything(folder: Path) -> bytes:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() + str(path).encode() for path in files)


def test_shredding_a_subject_leaves_the_chain_and_the_digests_whole(store, tmp_path):
    log = EventLog(tmp_path / "audit.jsonl")
    payloads = {}
    for subject in (SUBJECT, "bob"):
        payloads[subject] = store.put("removals/r", subject, SECRET)
        log.append(request="removals/r", type="RECEIVED", actor="local", payload=payloads[subject])
    assert store.get("removals/r", SUBJECT, payloads[SUBJECT]) == SECRET
    assert store.shred(SUBJECT)
    with pytest.raises(NotFound) as gone:
        store.get("removals/r", SUBJECT, payloads[SUBJECT])
    assert gone.value.reason == Reason.SUBJECT_SHREDDED
    assert store.get("removals/r", "bob", payloads["bob"]) == SECRET
    for event in read_events(log.path):
        store.check("removals/r", event.payload)
    assert not store.shred(SUBJECT)


def test_no_file_holds_the_content_or_the_subject(store, tmp_path):
    log = EventLog(tmp_path / "audit.jsonl")
    payload = store.put("removals/r", SUBJECT, SECRET)
    log.append(request="removals/r", type="RECEIVED", actor="local", payload=payload)
    found = everything(tmp_path)
    for text in (SECRET, SECRET[:12], SUBJECT.encode(), b"Lovelace"):
        assert text not in found
    assert payload.removeprefix("sha256:").encode() in found


def test_a_key_that_was_shredded_is_nowhere(store, tmp_path):
    store.put("removals/r", SUBJECT, SECRET)
    file = store._key_file(SUBJECT)
    key = file.read_bytes()
    os.link(file, tmp_path / "inode")  # what is on the disk after the file is unlinked
    assert key in everything(tmp_path)
    store.shred(SUBJECT)
    assert not file.exists()
    assert key not in everything(tmp_path)


def test_a_key_whose_destruction_was_interrupted_is_destroyed(store):
    payload = store.put("removals/r", SUBJECT, SECRET)
    store._key_file(SUBJECT).write_bytes(bytes(32))  # killed before the file was unlinked
    with pytest.raises(NotFound) as gone:
        store.get("removals/r", SUBJECT, payload)
    assert gone.value.reason == Reason.SUBJECT_SHREDDED
    store.put("removals/r", SUBJECT, b"new")
    assert any(store._key_file(SUBJECT).read_bytes())


def test_a_subject_that_comes_back_has_a_new_key(store):
    before = store.put("removals/r", SUBJECT, SECRET)
    store.shred(SUBJECT)
    after = store.put("removals/s", SUBJECT, b"new")
    assert store.get("removals/s", SUBJECT, after) == b"new"
    with pytest.raises(DataLoss) as refused:
        store.get("removals/r", SUBJECT, before)
    assert refused.value.reason == Reason.PAYLOAD_DAMAGED


def test_equal_contents_have_different_digests(store):
    assert store.put("removals/r", SUBJECT, SECRET) != store.put("removals/r", SUBJECT, SECRET)


def test_a_payload_belongs_to_its_request_and_its_subject(store):
    payload = store.put("removals/r", SUBJECT, SECRET)
    store.put("removals/r", "bob", b"x")
    with pytest.raises(DataLoss):
        store.get("removals/r", "bob", payload)
    with pytest.raises(NotFound):
        store.get("removals/s", SUBJECT, payload)
    other = store._file("removals/s", payload)
    other.parent.mkdir(parents=True)
    other.write_bytes(store._file("removals/r", payload).read_bytes())
    store.check("removals/s", payload)
    with pytest.raises(DataLoss):  # the request is authenticated with the content
        store.get("removals/s", SUBJECT, payload)


def test_every_flipped_byte_is_noticed(store):
    payload = store.put("removals/r", SUBJECT, b"short")
    file = store._file("removals/r", payload)
    whole = file.read_bytes()
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= at % 255 + 1
        file.write_bytes(changed)
        with pytest.raises(DataLoss):
            store.check("removals/r", payload)
    file.unlink()
    with pytest.raises(NotFound) as missing:
        store.check("removals/r", payload)
    assert missing.value.reason == Reason.PAYLOAD_NOT_FOUND


@pytest.mark.parametrize("payload", ["", "sha256:../../keys/names", "sha256:" + "0" * 63, "/etc/hostname"])
def test_a_digest_that_is_none_is_no_path(store, payload):
    store.put("removals/r", SUBJECT, SECRET)
    with pytest.raises(NotFound) as missing:
        store.check("removals/r", payload)
    assert missing.value.reason == Reason.PAYLOAD_NOT_FOUND


def test_files_are_the_owners_alone(store, tmp_path):
    store.put("removals/r", SUBJECT, SECRET)
    found = [tmp_path / "payloads", *(tmp_path / "payloads").rglob("*")]
    assert len(found) > 5
    for path in found:
        assert path.stat().st_mode & 0o077 == 0, path


def _put(folder: Path, gate, told) -> None:
    gate.wait(60)
    told.put(PayloadStore(folder).put("removals/r", SUBJECT, SECRET))


def test_processes_that_meet_a_subject_at_once_use_one_key(store, tmp_path):
    gate, told = FORK.Barrier(4), FORK.Queue()
    writers = [FORK.Process(target=_put, args=(tmp_path / "payloads", gate, told)) for _ in range(4)]
    for writer in writers:
        writer.start()
    payloads = [told.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join(60)
    assert [store.get("removals/r", SUBJECT, payload) for payload in payloads] == [SECRET] * 4
    assert not list(tmp_path.rglob("*.partial"))
