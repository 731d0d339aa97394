"""Log lines on stderr, each whole or not at all: where there is no room for one, it is dropped and counted."""

import contextlib
import logging
import os
import sys


class LineHandler(logging.StreamHandler):
    """Writes each record to stderr in one piece, and never fails what it is called from.

    stderr is often a file, on a disk that can be full. A line that does not fit is dropped; the next one that does is
    preceded by one that says how many were.

    Attributes
    ----------
    dropped
        Lines dropped since the last one that was written.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.dropped = 0
        self._torn = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or drop it."""
        try:
            descriptor = self.stream.fileno()
        except (OSError, ValueError):  # not a file: something has taken stderr's place
            super().emit(record)
            return
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if self.dropped:
            line = f"{self.format(self._loss())}\n{line}"
        data = f"{line}\n".encode(errors="backslashreplace")
        if self._write(descriptor, b"\n" + data if self._torn else data):
            self.dropped = 0
        else:
            self.dropped += 1

    def _write(self, descriptor: int, data: bytes) -> bool:
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(descriptor, data) :]
                self._torn = True  # until the rest has followed
            self._torn = False
        return not data

    def _loss(self) -> logging.LogRecord:
        fields = {
            "name": __name__,
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "log lines were dropped: they could not be written",
            "count": self.dropped,
        }
        return logging.makeLogRecord(fields)
