import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import palimpsest
from palimpsest.embedded.process import tied

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux signals children of a dead parent"
)


def test_a_tied_command_is_the_process_that_was_started():
    command = [sys.executable, "-c", "import os, sys; print(os.getpid(), sys.argv[1:])", "a b", ""]
    child = subprocess.Popen(tied(command), stdout=subprocess.PIPE, text=True)
    out, _ = child.communicate()
    assert out == f"{child.pid} ['a b', '']\n"


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_a_tied_command_ends_with_its_parent(sig):
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                f"""
                import signal, subprocess, sys, time
                from palimpsest.embedded.process import tied
                command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
                subprocess.Popen(tied(command, signal.Signals({int(sig)})))
                time.sleep(600)
                """
            ),
        ],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout.readline() == b"\n"  # the child runs, as no process does that was started too late
    parent.kill()
    assert parent.stdout.read() == b""  # returns once both ends of the pipe, the child's too, are closed
    parent.wait()


def test_a_command_whose_parent_is_another_does_not_run():
    command = tied([sys.executable, "-c", "print('ran')"])
    command[command.index("-c") + 2] = "1"
    assert subprocess.run(command, capture_output=True, check=True).stdout == b""


def test_nothing_forks_where_threads_of_grpc_may_run():
    root = Path(palimpsest.__file__).parents[2]
    sources = [file for folder in ("shared", "services") for file in (root / folder).rglob("*.py")]
    assert sources
    assert not [str(file) for file in sources if "preexec_fn=" in file.read_text()]
