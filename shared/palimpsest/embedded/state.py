"""How others find a running stack: a lock while it lives, and a file that says where it is."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from palimpsest.disk import replace_file
from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason

Owner = Literal["launcher", "program"]


@dataclass(frozen=True)
class StackState:
    """A stack as ``stack.json`` describes it.

    Attributes
    ----------
    owner
        "launcher": a process that does nothing else, and may be told to stop. "program": somebody's own
        program that holds a Stack.
    target
        Address for clients.
    processes
        Names and process ids of the children.
    gateway
        URL of the HTTP gateway; empty where there is none.
    """

    pid: int
    owner: Owner
    target: str
    ready: bool
    logs: str
    processes: dict[str, int] = field(default_factory=dict)
    gateway: str = ""

    def write(self, state_dir: Path) -> None:
        """Replace the file whole, so that readers never see half of it; where that fails the old one stays."""
        replace_file(_file(state_dir), json.dumps(asdict(self)))


def _file(state_dir: Path) -> Path:
    return state_dir / "stack.json"


class StackLock:
    """At most one stack on a state directory; the kernel releases the lock however the process ends."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        FailedPrecondition
            Another stack holds it.
        """
        if not self.try_acquire():
            state = running(self._state_dir)
            who = f"process {state.pid} serves {state.target}" if state else "another process is starting one"
            raise FailedPrecondition(
                Reason.STACK_RUNNING,
                f"A stack already runs on {self._state_dir}: {who}. Use it, stop it with `palimpsest down`, "
                "or set PALIMPSEST_STATE_DIR to another folder.",
            )
        _file(self._state_dir).unlink(missing_ok=True)  # a killed stack's

    def try_acquire(self) -> bool:
        """Take the lock if it is free.

        Raises
        ------
        InvalidArgument
            STATE_FOLDER.
        """
        require_folder(self._state_dir)
        self._state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = _lock(self._state_dir, fcntl.LOCK_EX)
        return self._descriptor is not None

    def release(self) -> None:
        """Forget the stack and let go."""
        if self._descriptor is not None:
            _file(self._state_dir).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


def require_folder(state_dir: Path) -> None:
    """Check that a state directory is a directory, or may become one.

    Raises
    ------
    InvalidArgument
        STATE_FOLDER: something else has its name, or the name of a folder above it.
    """
    for path in (state_dir, *state_dir.absolute().parents):
        if path.is_dir():
            return
        if path.exists() or path.is_symlink():
            raise InvalidArgument(
                Reason.STATE_FOLDER,
                f"{state_dir} cannot keep a stack's state: {path} is not a folder. Name another one with --state-dir "
                "or PALIMPSEST_STATE_DIR.",
            )


def _lock(state_dir: Path, kind: int) -> int | None:
    descriptor = os.open(state_dir / "stack.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(state_dir: Path) -> bool:
    """Return whether a stack lives on a state directory, even one that is only starting or stopping."""
    if not (state_dir / "stack.lock").exists():
        return False
    # Shared, so that two that look at once do not take each other for a stack.
    descriptor = _lock(state_dir, fcntl.LOCK_SH)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def running(state_dir: Path) -> StackState | None:
    """Return the stack that runs on a state directory, ready or not; None if there is none."""
    if not is_locked(state_dir):
        return None
    try:
        return StackState(**json.loads(_file(state_dir).read_text()))
    except FileNotFoundError:
        return None
