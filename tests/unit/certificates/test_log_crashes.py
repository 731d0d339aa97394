"""The audit log after crashes, and under several writers at once."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from palimpsest.certificates import EventLog, read_events
from palimpsest.certificates import log as log_module
from palimpsest.certificates.events import GENESIS
from palimpsest.errors import DataLoss
from tests.unit.certificates.conftest import NOW, append_some, broken, lines

FORK = multiprocessing.get_context("fork")


def test_a_line_cut_at_any_byte_is_repaired_by_the_next_append(log, monkeypatch):
    monkeypatch.setattr(log_module.os, "fsync", lambda handle: None)  # hundreds of them
    append_some(log, 3)
    whole, last = log.path.read_bytes(), lines(log)[-1]
    start = len(whole) - len(last)
    for cut in range(len(last) + 1):
        log.path.write_bytes(whole[: start + cut])
        added = log.append(request="removals/next", type="T", actor="local", now=NOW)
        kept = 3 if cut >= len(last) - 1 else 2  # whole but for its newline: it is completed
        found = list(log.read())
        assert found[-1] == added
        assert [event.seq for event in found] == list(range(kept + 1))
        assert log.path.read_bytes().startswith(whole if kept == 3 else whole[:start])


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_a_first_line_that_is_torn_is_repaired(log, cut):
    append_some(log, 1)
    log.path.write_bytes(log.path.read_bytes()[:cut])
    append_some(log, 2)
    assert [event.seq for event in log.read()] == [0, 1]


def test_a_torn_line_is_an_error_to_a_reader_of_a_copy(log):
    append_some(log, 2)
    log.path.write_bytes(log.path.read_bytes()[:-1])
    assert broken(log.path)
    assert [event.seq for event in log.read()] == [0, 1]  # who may write repairs it


def test_a_whole_line_that_does_not_follow_is_not_cut_off(log):
    append_some(log, 3)
    found = lines(log)
    log.path.write_bytes(found[0] + found[2][:-1])
    before = log.path.read_bytes()
    with pytest.raises(DataLoss):
        append_some(log, 1)
    assert log.path.read_bytes() == before


def _append_until_killed(path: Path, told) -> None:
    log = EventLog(path)
    while True:
        told.send(log.append(request="removals/r", type="T", actor="local").seq)


def test_a_killed_writer_loses_nothing_that_it_was_told(log):
    here, there = FORK.Pipe(duplex=False)
    writer = FORK.Process(target=_append_until_killed, args=(log.path, there))
    writer.start()
    there.close()
    acknowledged = [here.recv() for _ in range(10)][-1]
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(60)
    while True:
        try:
            acknowledged = here.recv()
        except EOFError:
            break
    added = log.append(request="removals/r", type="T", actor="local")
    assert added.seq > acknowledged
    assert [event.seq for event in log.read()] == list(range(added.seq + 1))


def _append_many(path: Path, name: str, gate) -> None:
    log = EventLog(path)
    gate.wait(60)
    for at in range(25):
        log.append(request=f"{name}/{at}", type="T", actor="local")
        log.append_once(request="removals/r", type="ONCE", actor="local", payload=GENESIS)


def test_writers_of_several_processes_never_fork_the_chain(log):
    gate = FORK.Barrier(3)
    writers = [FORK.Process(target=_append_many, args=(log.path, name, gate)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    found = list(read_events(log.path))
    assert len(found) == 3 * 25 + 1
    for name in "abc":
        of_one = [event.request for event in found if event.request.startswith(f"{name}/")]
        assert of_one == [f"{name}/{at}" for at in range(25)]
