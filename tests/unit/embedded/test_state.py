"""The lock and the file by which a stack is found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from palimpsest.embedded.environment import settings_environment
from palimpsest.embedded.installation import services_root
from palimpsest.embedded.probes import free_address, tail
from palimpsest.embedded.stack import Stack
from palimpsest.embedded.state import StackLock, StackState, is_locked, running
from palimpsest.errors import FailedPrecondition, Reason, ResourceExhausted
from palimpsest.settings import Settings
from tests.disks import small_disk
from tests.waiting import until


def state(**fields):
    return StackState(**{"pid": 1, "owner": "program", "target": "t", "ready": True, "logs": "l"} | fields)


def test_nothing_runs_on_a_folder_that_is_not_there(tmp_path):
    assert running(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_the_lock_makes_the_state_true(tmp_path):
    lock = StackLock(tmp_path)
    lock.acquire()
    assert is_locked(tmp_path)
    assert running(tmp_path) is None
    state(processes={"valkey": 7}).write(tmp_path)
    assert running(tmp_path) == state(processes={"valkey": 7})
    lock.release()
    assert running(tmp_path) is None
    assert not is_locked(tmp_path)


def test_a_second_stack_is_refused_and_told_who_runs(tmp_path):
    lock = StackLock(tmp_path)
    lock.acquire()
    state(pid=4711, target="127.0.0.1:9").write(tmp_path)
    with pytest.raises(FailedPrecondition, match=r"4711 serves 127\.0\.0\.1:9") as refused:
        StackLock(tmp_path).acquire()
    assert refused.value.reason == Reason.STACK_RUNNING
    lock.release()


def test_a_killed_holder_leaves_no_lock_and_no_state(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from palimpsest.embedded.state import *\n"
        "StackLock(Path(sys.argv[1])).acquire() or StackState(1,'launcher','t',True,'l').write(Path(sys.argv[1]))\n"
        "print('held', flush=True); time.sleep(600)"
    )
    # The lock object must outlive the statement that makes it.
    code = code.replace(
        "StackLock(Path(sys.argv[1])).acquire() or", "l = StackLock(Path(sys.argv[1])); l.acquire();"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    assert running(tmp_path).target == "t"
    holder.kill()
    holder.wait()
    assert until(lambda: not is_locked(tmp_path))
    assert running(tmp_path) is None
    StackLock(tmp_path).acquire()
    assert not (tmp_path / "stack.json").exists()


def test_settings_survive_the_environment(tmp_path, monkeypatch):
    settings = Settings(
        state_dir=tmp_path / "a b",
        redis_url="unix:///x",
        artifact_options={"key": "ü", "n": 1},
        hub_offline=False,
        drain_seconds=1.5,
        tokens_file=tmp_path / "tokens",
    )
    for name in list(os.environ):
        if name.startswith("PALIMPSEST_"):
            monkeypatch.delenv(name)
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_relative_paths_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settings_environment(Settings(state_dir="here"))["PALIMPSEST_STATE_DIR"] == str(tmp_path / "here")


def test_the_checkout_is_found():
    assert (services_root() / "services" / "__main__.py").exists()


def test_addresses(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        other = free_address(address, exact=False)
        assert other != address
        assert other.startswith("127.0.0.1:")
        with pytest.raises(FailedPrecondition) as refused:
            free_address(address, exact=True)
        assert refused.value.reason == Reason.ADDRESS_IN_USE
    assert free_address(address, exact=True) == address
    assert free_address("unix:/x.sock", exact=True) == "unix:/x.sock"


def test_the_end_of_a_log(tmp_path):
    log = tmp_path / "log"
    assert tail(log) == ""
    log.write_text("\n".join(map(str, range(50))))
    assert tail(log, 2) == "48\n49"


def test_a_stack_that_finds_no_room_says_so_and_lets_go(tmp_path: Path):
    with small_disk(tmp_path / "disk", 1) as disk:
        settings = Settings(state_dir=disk.root / "state", redis_url="", listen="127.0.0.1:0")
        disk.fill()
        with pytest.raises(ResourceExhausted) as caught:
            Stack(settings).start()
        assert caught.value.reason == "DISK_FULL"
        assert str(disk.root) in caught.value.message
        assert not is_locked(settings.state_dir)
        assert running(settings.state_dir) is None


def test_a_state_that_finds_no_room_leaves_the_old_one(tmp_path: Path):
    with small_disk(tmp_path / "disk", 1) as disk:
        state(ready=False).write(disk.root)
        before = disk.content()
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            state().write(disk.root)
        assert disk.content() == before
        assert json.loads((disk.root / "stack.json").read_text())["ready"] is False
