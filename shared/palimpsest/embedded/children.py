"""One child process: started with its output in a log, ended with its whole process group."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from palimpsest.embedded.process import tied
from palimpsest.embedded.valkey import ValkeyServer

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_HEALTHY_SECONDS = 60.0


class Child(Protocol):
    """What the stack supervises."""

    name: str
    log: Path

    @property
    def pid(self) -> int | None:
        """Process id while the child runs."""
        ...

    def start(self) -> None:
        """Start it, or start it again."""
        ...

    def stop(self) -> None:
        """End it: politely, and after its grace time for good."""
        ...


class ValkeyChild:
    """The embedded Valkey."""

    def __init__(self, server: ValkeyServer) -> None:
        self.name = "valkey"
        self.server = server
        self.log = server.directory / "valkey.log"

    @property
    def pid(self) -> int | None:
        """Process id while the server runs."""
        return self.server.pid

    def start(self) -> None:
        """Start it and wait for its answer."""
        self.server.start()

    def stop(self) -> None:
        """Flush its file and end it."""
        self.server.stop()


class PythonChild:
    """``python -m module`` with the stack's settings in its environment.

    Parameters
    ----------
    grace
        Seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self, name: str, module: str, *, root: Path, environment: dict[str, str], log: Path, grace: float
    ) -> None:
        self.name = name
        self.log = log
        self._argv: Sequence[str] = (sys.executable, "-m", module)
        self._root = root
        self._environment = environment
        self._grace = grace
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while the child runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it in a process group of its own, where a terminal's Ctrl-C does not reach it."""
        self._end_group()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                # If the stack dies, Valkey is gone too, so exit at once.
                tied(self._argv, signal.SIGKILL),
                cwd=self._root,
                env={**os.environ, **self._environment, **self._python()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _python(self) -> dict[str, str]:
        # Beside the working directory, which PYTHONSAFEPATH takes off the path.
        path = [str(self._root), os.environ.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONUNBUFFERED": "1"}

    def stop(self) -> None:
        """Ask it to drain, wait, then kill whatever of its group is left."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._grace)
        self._end_group()

    def _end_group(self) -> None:
        # The group outlives its leader: a worker that was killed may have left children with a job.
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Restarts:
    """When a child that died may start again: at once the first time, then after ever longer pauses."""

    def __init__(self) -> None:
        self.count = 0
        self._pause = _FIRST_PAUSE
        self._started = time.monotonic()
        self._due: float | None = None

    def due(self) -> bool:
        """Whether the child, found dead, is to be started now."""
        now = time.monotonic()
        if self._due is None:
            if now - self._started > _HEALTHY_SECONDS:
                self._pause = _FIRST_PAUSE
            self._due = now + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        if now < self._due:
            return False
        self._due = None
        self._started = now
        self.count += 1
        return True
