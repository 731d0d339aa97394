"""The audit log: an append-only file of JSON lines, each with the hash of the one before.

Changing, removing, inserting or moving an event breaks the chain. Cutting events off the *end* does not; that shows
against what names the log's length and head: every certificate, and every ``Checkpoint``.
"""

import contextlib
import fcntl
import logging
import os
import time as clock
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from palimpsest.certificates.events import LONGEST_LINE, Event, broken
from palimpsest.certificates.files import make_private
from palimpsest.certificates.records import time_text
from palimpsest.disk import room_for, sync
from palimpsest.errors import AlreadyExists, DataLoss, Reason, Unavailable

_log = logging.getLogger(__name__)
_LOCK_SECONDS = 30.0
_POLL_SECONDS = 0.002


class EventLog:
    """The log in one file, which any number of processes may append to and read.

    An append holds the file's lock (flock), so there is one writer at a time and the chain never forks, and returns
    once the line is on the disk. A writer that dies in the middle leaves a line without its newline: the next append
    completes the line if only the newline is missing, and otherwise cuts it off, for nobody was told that it is there.

    Parameters
    ----------
    path
        Created by the first append with mode 0600, its folder with 0700.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(
        self,
        *,
        request: str,
        type: str,
        actor: str,
        payload: str | None = None,
        now: datetime | None = None,
    ) -> Event:
        """Append an event durably and return it; see ``Event`` for the fields.

        Raises
        ------
        InvalidArgument
            RECORD_INVALID: a field breaks its limits.
        DataLoss
            LOG_CHAIN_BROKEN: the log's last event is damaged, so that nothing can follow it.
        Unavailable
            LOG_BUSY: other processes have held the lock for too long.
        ResourceExhausted
            DISK_FULL; the log is as it was.
        """
        with self._locked() as handle:
            return self._append(handle, request, type, actor, payload, now)

    def append_once(
        self,
        *,
        request: str,
        type: str,
        actor: str,
        payload: str,
        now: datetime | None = None,
        superseding: bool = False,
    ) -> Event:
        """Append an event that a request has once, or return the one that is there with the same payload.

        For what may be tried again after a crash. Reads the whole log.

        Parameters
        ----------
        request, type, actor, payload
            See ``Event``.
        now
            The time; None: that of the machine.
        superseding
            The event may follow others of its type, with other payloads, and takes their place.

        Raises
        ------
        AlreadyExists
            EVENT_EXISTS: the request has such an event with another payload.
        InvalidArgument, DataLoss, Unavailable, ResourceExhausted
            As ``append``; the whole chain is checked.
        """
        with self._locked() as handle:
            self._recover(handle)
            for event in read_events(self.path):
                if (event.request, event.type) != (request, type):
                    continue
                if event.payload == payload:
                    return event
                if not superseding:
                    raise AlreadyExists(
                        Reason.EVENT_EXISTS,
                        f"{request} has an event {type} already, number {event.seq}, with another payload. Use "
                        "that one.",
                        metadata={"seq": event.seq, "payload": event.payload or ""},
                    )
            return self._append(handle, request, type, actor, payload, now)

    def read(self) -> Iterator[Event]:
        """Read the events that are there now, checking the chain; writers may go on meanwhile.

        Raises
        ------
        DataLoss, Unavailable
            As ``append``.
        """
        with self._locked() as handle:
            self._recover(handle)
            size = os.fstat(handle).st_size
        yield from read_events(self.path, size)

    def _append(
        self,
        handle: int,
        request: str,
        type: str,
        actor: str,
        payload: str | None,
        now: datetime | None,
    ) -> Event:
        last = self._recover(handle)
        time = time_text(now or datetime.now(UTC))
        event = Event.following(last, time=time, request=request, type=type, actor=actor, payload=payload)
        self._write(handle, event.to_bytes())
        return event

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the log's lock; gives a descriptor whose writes go to the end."""
        make_private(self.path.parent)
        new = not self.path.exists()
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if new:
                sync(self.path.parent)
            self._acquire(handle)
            yield handle
        finally:
            os.close(handle)

    def _acquire(self, handle: int) -> None:
        deadline = clock.monotonic() + _LOCK_SECONDS
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if clock.monotonic() > deadline:
                    raise Unavailable(
                        Reason.LOG_BUSY,
                        f"Other processes have been writing to {self.path} for more than {_LOCK_SECONDS:.0f} s. Retry.",
                        retry_after=1.0,
                    ) from None
                clock.sleep(_POLL_SECONDS)

    def _recover(self, handle: int) -> Event | None:
        """Return the last event, None for an empty log; first repair what a writer that died has left."""
        size = os.fstat(handle).st_size
        window = os.pread(handle, 3 * LONGEST_LINE, max(0, size - 3 * LONGEST_LINE))
        *lines, torn = window.split(b"\n")
        last = _last_event(lines, whole=size == len(window))
        if not torn:
            return last
        if _is_event(torn + b"\n"):
            complete = Event.read(torn + b"\n", last)
            self._write(handle, b"\n")
            return complete
        if len(torn) > LONGEST_LINE or _is_event(torn[:-1] + b"\n"):
            raise broken(None, "its last line was written whole, and then changed")
        _log.warning("cut off %d bytes of an event that was not written whole: %s", len(torn), self.path)
        os.ftruncate(handle, size - len(torn))
        os.fsync(handle)
        return last

    def _write(self, handle: int, data: bytes) -> None:
        """Append bytes durably; where that fails, take them back."""
        before = os.fstat(handle).st_size
        with room_for(f"an event in the audit log, {self.path}"):
            try:
                written = 0
                while written < len(data):
                    written += os.write(handle, data[written:])
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, before)
                raise


def read_events(path: Path, size: int | None = None) -> Iterator[Event]:
    """Read a log from its first event, checking the chain as it goes; in memory is one line at a time.

    Parameters
    ----------
    path
        The log, or a copy of it.
    size
        Where to stop, in bytes. Default: at the end of the file, where a writer may be in the middle of a line.

    Raises
    ------
    DataLoss
        LOG_CHAIN_BROKEN: at the first event that is damaged, missing, repeated, out of order or cut short.
    OSError
        The file cannot be read.
    """
    last, left = None, size
    with path.open("rb") as file:
        while left != 0 and (line := file.readline(LONGEST_LINE + 1)):
            left = None if left is None else left - len(line)
            last = Event.read(line, last)
            yield last


def _last_event(lines: list[bytes], *, whole: bool) -> Event | None:
    """Return the event of the last complete line, checked together with the line before it.

    ``whole``: the lines are the file's from its beginning; otherwise a part of a line may come first.
    """
    complete = lines if whole else lines[1:]
    if not complete and not whole:
        raise broken(None, "a line is too long for an event")
    pair = complete[-2:]
    from_start = whole and len(pair) == len(complete)
    last: Event | None = None
    for line in pair:
        last = Event.read(line + b"\n", last) if from_start or last else Event.alone(line + b"\n")
    return last


def _is_event(line: bytes) -> bool:
    try:
        Event.alone(line)
    except DataLoss:
        return False
    return True
