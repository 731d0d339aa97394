"""The audit log: appended, checked, changed, torn, and written by several processes at once."""

import hashlib
import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palimpsest.certificates import EventLog, read_events
from palimpsest.certificates import log as log_module
from palimpsest.certificates.events import GENESIS, Event
from palimpsest.errors import (
    AlreadyExists,
    DataLoss,
    InvalidArgument,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from tests.disks import small_disk
from tests.unit.certificates.conftest import NOW, append_some, broken, lines

REQUESTS = st.from_regex(r"[!-~]{1,20}", fullmatch=True)
ACTORS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)


def test_an_event_is_a_line_of_canonical_json_with_the_hash_of_its_content(log):
    log.append(request="removals/r", type="RECEIVED", actor="alice", now=NOW)
    log.append(request="removals/r", type="PURGED", actor="al\u00efce b", payload=GENESIS, now=NOW)
    previous = "sha256:" + "0" * 64
    for seq, line in enumerate(lines(log)):
        fields = json.loads(line)
        assert set(fields) == {"seq", "time", "request", "type", "actor", "payload", "previous", "hash"}
        assert (fields["seq"], fields["previous"], fields["time"]) == (seq, previous, "2026-03-01T12:00:00Z")
        previous = fields.pop("hash")
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert previous == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert [event.hash for event in log.read()][-1] == previous


def test_a_known_hash():
    event = Event.following(
        None,
        time="2026-03-01T12:00:00Z",
        request="removals/r",
        type="RECEIVED",
        actor="alice",
        payload=None,
    )
    text = (
        f'{{"actor":"alice","payload":null,"previous":"sha256:{"0" * 64}","request":"removals/r","seq":0,'
        '"time":"2026-03-01T12:00:00Z","type":"RECEIVED"}'
    )
    assert event.hash == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@settings(derandomize=True, deadline=None, max_examples=25)
@given(events=st.lists(st.tuples(REQUESTS, ACTORS), max_size=6))
def test_what_was_appended_is_read_back(tmp_path_factory, events):
    log = EventLog(tmp_path_factory.mktemp("log") / "audit.jsonl")
    made = [log.append(request=request, type="T", actor=actor) for request, actor in events]
    assert made == (list(log.read()) if events else [])
    assert [(e.request, e.actor) for e in made] == events


@pytest.mark.parametrize(
    "fields",
    [
        {"request": "the text that was to be forgotten"},
        {"request": ""},
        {"request": "r" * 201},
        {"type": "received"},
        {"actor": ""},
        {"actor": "a" * 129},
        {"payload": "the text"},
        {"actor": "\ud800"},
    ],
    ids=str,
)
def test_fields_with_room_for_a_text_are_refused(log, fields):
    log.append(request="removals/r", type="T", actor="local")
    before = log.path.read_bytes()
    with pytest.raises(InvalidArgument):
        log.append(**{"request": "removals/r", "type": "T", "actor": "local", **fields})
    assert log.path.read_bytes() == before


def test_the_longest_event_fits(log):
    longest = {"request": "r" * 200, "type": "T" * 64, "actor": "\x01" * 128, "payload": GENESIS}
    for _ in range(3):
        log.append(**longest)
    assert max(map(len, lines(log))) < 4096
    assert [event.seq for event in log.read()] == [0, 1, 2]


def test_files_are_the_owners_alone(log):
    append_some(log, 1)
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert log.path.parent.stat().st_mode & 0o777 == 0o700


# ---- changes


def edited(log: EventLog, edit) -> bool:
    found = lines(log)
    edit(found)
    log.path.write_bytes(b"".join(found))
    return broken(log.path)


@settings(
    derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)  # fmt: skip
@given(data=st.data())
def test_moving_removing_repeating_events_breaks_the_chain(tmp_path_factory, data):
    log = EventLog(tmp_path_factory.mktemp("log") / "audit.jsonl")
    append_some(log, 6)
    assert not broken(log.path)
    at = data.draw(st.integers(0, 5))
    to = data.draw(st.integers(0, 5).filter(lambda to: to != at))
    kind = data.draw(st.sampled_from(["swap", "move", "delete", "repeat"]))

    def edit(found):
        if kind == "swap":
            found[at], found[to] = found[to], found[at]
        elif kind == "move":
            found.insert(to, found.pop(at))
        elif kind == "delete":
            del found[min(at, 4)]  # of the last one the certificates and checkpoints tell
        else:
            found.insert(to, found[at])

    assert edited(log, edit)


def test_every_flipped_byte_breaks_the_chain(log):
    append_some(log, 3)
    whole = log.path.read_bytes()
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= at % 255 + 1
        log.path.write_bytes(changed)
        assert broken(log.path), at


def test_an_event_of_another_log_does_not_fit(log, tmp_path):
    other = EventLog(tmp_path / "other.jsonl")
    append_some(log, 3)
    append_some(other, 1)
    other.append(request="removals/x", type="T", actor="local", now=NOW)
    append_some(other, 1)
    assert edited(log, lambda found: found.__setitem__(2, lines(other)[2]))


def test_a_number_that_is_skipped_breaks_the_chain_though_the_hashes_fit(log):
    append_some(log, 2)
    fields = list(log.read())[-1].model_dump()
    fields |= {"seq": 3, "previous": fields["hash"]}
    forged = Event.of(fields)
    forged = forged.model_copy(update={"hash": forged.fingerprint("hash")})
    assert edited(log, lambda found: found.append(forged.to_bytes()))


def test_a_log_with_a_damaged_end_takes_no_event(log):
    append_some(log, 3)
    whole = log.path.read_bytes()
    length = len(lines(log)[-1])
    for at in range(len(whole) - length, len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1
        log.path.write_bytes(changed)
        with pytest.raises(DataLoss):
            append_some(log, 1)
        assert log.path.read_bytes() == changed


@pytest.mark.parametrize("garbage", [b"x" * 20_000, b"\n", b"\n" * 20_000, b"x" * 20_000 + b"\n"])
def test_garbage_at_the_end_takes_no_event(log, garbage):
    append_some(log, 2)
    with log.path.open("ab") as file:
        file.write(garbage)
    with pytest.raises(DataLoss):
        append_some(log, 1)


# ---- once, busy, full


def test_an_event_that_comes_once(log):
    append_some(log, 2)
    once = {"request": "removals/r", "type": "ONCE", "actor": "local"}
    first = log.append_once(**once, payload=GENESIS, now=NOW)
    append_some(log, 1)
    assert log.append_once(**once, payload=GENESIS, now=NOW + timedelta(days=1)) == first
    with pytest.raises(AlreadyExists) as refused:
        log.append_once(**once, payload="sha256:" + "1" * 64)
    assert refused.value.reason == Reason.EVENT_EXISTS
    other = log.append_once(**once | {"request": "removals/s"}, payload=GENESIS)
    assert other.seq == 4
    assert len(list(log.read())) == 5


def test_a_lock_that_is_held_for_too_long(log, monkeypatch):
    append_some(log, 1)
    monkeypatch.setattr(log_module, "_LOCK_SECONDS", 0.01)
    with log._locked(), pytest.raises(Unavailable) as refused:
        append_some(EventLog(log.path), 1)
    assert refused.value.reason == Reason.LOG_BUSY
    append_some(log, 1)


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path):
    with small_disk(tmp_path / "disk", 1) as disk:
        log = EventLog(disk.root / "audit.jsonl")
        append_some(log, 3)
        disk.fill()
        with pytest.raises(ResourceExhausted):
            append_some(log, 100)  # the last page of the file still takes some
        found = list(read_events(log.path))
        disk.empty()
        added = log.append(request="removals/r", type="T", actor="local")
        assert added.seq == len(found)
        assert list(log.read())[:-1] == found
