"""The audit log: JSON lines about each call of a mutating method, the first of them before the call begins."""

import contextlib
import datetime
import hashlib
import json
import os
import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import structlog

from palimpsest.disk import disk_full, is_full
from palimpsest.errors import PalimpsestError, Reason, Unavailable

_log = structlog.get_logger(__name__)


class AuditLog:
    """An append-only file of JSON lines; lines of several processes never mix.

    A call has two lines, joined by ``call``:

    - ``event`` "begun", written before the call's handler sees its request. Where it cannot be written the call is
      refused, so that nothing is ever changed without its line.
    - ``event`` "ended", with ``code``. A call that is refused before it begins has only this one, with an empty
      ``call``; where even that does not fit it has none, and has changed nothing. A call that began and has no end was
      under way when the server died or was stopped with a full disk: it may have changed something.

    Both hold ``time`` (UTC), ``principal``, ``actor`` (the token that made the call on the principal's behalf; empty
    where the principal called itself), ``method``, ``request_id`` and ``digest`` (SHA-256 of the request's bytes; of a
    stream's first message). They do not hold the request, so that the log may be kept where the data may not.

    Ends that do not fit on the disk are written as soon as there is room.

    Parameters
    ----------
    path
        Created with mode 0600, its folder with 0700.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        size = os.fstat(self._file).st_size
        # A machine that lost power may have left half a line.
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"
        self._late: deque[bytes] = deque()  # of calls that began while there was room, so there are few

    def begin(self, call: "AuditedCall") -> str:
        """Write the line of a call that is about to begin; returns the call's name.

        Raises
        ------
        ResourceExhausted
            DISK_FULL: the call must not begin.
        Unavailable
            AUDIT_UNWRITABLE: likewise, for another reason than a full disk.
        """
        name = uuid.uuid4().hex
        try:
            self._write_late()
            self._write(_line("begun", name, call))
        except OSError as error:
            raise self._refusal(error) from error
        return name

    def end(self, call: "AuditedCall", code: str) -> None:
        """Write how a call ended; where that fails, and the call had begun, when there is room."""
        line = _line("ended", call.begun, call, code=code)
        if call.begun:
            self._late.append(line)
        try:
            self._write_late()
            if not call.begun:
                self._write(line)
        except OSError as error:
            _log.warning("audit line not written", code=code, later=bool(call.begun), error=str(error))

    def _write_late(self) -> None:
        while self._late:
            self._write(self._late[0])
            self._late.popleft()

    def _write(self, line: bytes) -> None:
        """Append a line, in one write; where only a part fits, take that part back."""
        torn, data = self._torn, b"\n" + line if self._torn else line
        written = os.write(self._file, data)
        while written < len(data):
            try:
                written += os.write(self._file, data[written:])
            except OSError:
                self._torn = not self._take_back(written) or torn
                raise
        self._torn = False

    def _take_back(self, written: int) -> bool:
        """Remove the bytes just written, unless another process has appended to them since."""
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        if os.fstat(self._file).st_size != end:
            return False
        os.ftruncate(self._file, end - written)
        return True

    def _refusal(self, error: OSError) -> PalimpsestError:
        if is_full(error):
            return disk_full(f"the line of this call in the audit log, {self._path}")
        return Unavailable(
            Reason.AUDIT_UNWRITABLE,
            f"The audit log {self._path} cannot be written ({error.strerror}), and no call changes anything without "
            "its line there. Make the file writable, then send the request again.",
            retry_after=2,
        )

    def close(self) -> None:
        """Write the ends that still wait, if there is room now, and close the file."""
        with contextlib.suppress(OSError):
            self._write_late()
        os.close(self._file)


@dataclass(slots=True)
class AuditedCall:
    """One call as the log tells of it; what is not known yet is empty.

    Attributes
    ----------
    log
        None where the method changes nothing, or no log is kept: then nothing is written.
    request
        Bytes of the first message.
    begun
        Name of the call in the log, once its first line is written.
    """

    log: AuditLog | None
    method: str
    request_id: str
    principal: str = ""
    actor: str = ""
    request: bytes = b""
    begun: str = ""

    def begin(self) -> None:
        """Write the first line, unless that was done; raises what ``AuditLog.begin`` raises."""
        if self.log is not None and not self.begun:
            self.begun = self.log.begin(self)

    def end(self, code: str) -> None:
        """Write the last line; never fails."""
        if self.log is not None:
            self.log.end(self, code)

    def who(self) -> dict[str, str]:
        """Who called what, for log lines."""
        return {
            "method": self.method,
            "principal": self.principal,
            "actor": self.actor,
            "request_id": self.request_id,
        }


def _line(event: str, name: str, call: AuditedCall, **more: str) -> bytes:
    fields = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "call": name,
        **call.who(),
        "digest": f"sha256:{hashlib.sha256(call.request).hexdigest()}",
        **more,
    }
    return json.dumps(fields).encode() + b"\n"
