"""The stack of this machine: found if it runs, started in the background if not, stopped on request."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from palimpsest.embedded.environment import settings_environment
from palimpsest.embedded.installation import services_root
from palimpsest.embedded.probes import answers, tail, usable_address
from palimpsest.embedded.state import StackState, is_locked, require_folder, running
from palimpsest.errors import FailedPrecondition, Reason, Unavailable
from palimpsest.rpc.channel import client_target
from palimpsest.settings import Settings

_START_SECONDS = 150.0
_STOP_SECONDS = 60.0


def ensure_running(settings: Settings, *, listen: str | None = None) -> str:
    """Return the address of the stack on ``settings.state_dir``, starting it in the background if none runs.

    Raises
    ------
    InvalidArgument, FailedPrecondition
        The state directory or the address cannot be used, or the stack that runs serves another than ``listen``.
    Unavailable
        It did not get ready; the message names its log.
    """
    require_folder(settings.state_dir)
    launcher: subprocess.Popen[bytes] | None = None
    log = settings.state_dir.absolute() / "logs" / "stack.log"
    deadline = time.monotonic() + _START_SECONDS
    while True:
        state = running(settings.state_dir)
        if state is not None and state.ready and answers(state.target, settings):
            _require_same(state, listen if launcher is None else None)
            return state.target
        if launcher is None and not is_locked(settings.state_dir):
            launcher = _launch(settings, log, listen)
        if launcher is not None and launcher.poll() is not None and not is_locked(settings.state_dir):
            raise Unavailable(Reason.STACK_NOT_READY, f"The stack did not start:\n{tail(log)}\nSee {log}.")
        if time.monotonic() > deadline:
            raise Unavailable(
                Reason.STACK_NOT_READY, f"The stack is not ready after {_START_SECONDS:g} s; see {log}."
            )
        time.sleep(0.1)


def _launch(settings: Settings, log: Path, listen: str | None) -> subprocess.Popen[bytes]:
    # Better complaints than the launcher's log would have, and at once.
    services_root()
    usable_address(settings, listen)
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "palimpsest.embedded", *([listen] if listen else [])],
            env=os.environ | settings_environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _require_same(state: StackState, listen: str | None) -> None:
    """Refuse an address that the stack which runs already does not serve."""
    host, _, port = client_target(listen or "").rpartition(":")
    if (
        listen
        and state.target not in (listen, client_target(listen))
        and not (port == "0" and state.target.rpartition(":")[0] == host)
    ):
        raise FailedPrecondition(
            Reason.STACK_RUNNING,
            f"A stack runs already and serves {state.target}, not {listen}. Use it, or stop it first with `palimpsest "
            "down`; --state-dir starts another one beside it.",
        )


def stop_running(settings: Settings, waiting: Callable[[], object] = lambda: None) -> StackState | None:
    """Stop the stack on ``settings.state_dir`` and wait for its end; return what ran, None if nothing did.

    Parameters
    ----------
    settings
        Whose state directory.
    waiting
        Called again and again until it has ended.

    Raises
    ------
    FailedPrecondition
        The stack belongs to a program of somebody's own, which is the one to stop it.
    Unavailable
        It has not ended in time.
    """
    state = running(settings.state_dir)
    if state is None:
        return None
    if state.owner != "launcher":
        raise FailedPrecondition(
            Reason.STACK_RUNNING, f"Process {state.pid} started this stack for itself; end that process."
        )
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while is_locked(settings.state_dir):
        if time.monotonic() > deadline:
            raise Unavailable(
                Reason.STACK_NOT_READY, f"Process {state.pid} has not ended; see the logs in {state.logs}."
            )
        waiting()
        time.sleep(0.1)
    return state
