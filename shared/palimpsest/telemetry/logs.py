"""Logs: one event a line on stderr, as text for people or JSON for machines; what does not fit there is dropped.

Servers, rooms and jobs log through structlog. What can be used without the server's packages (``lm``, ``engine``,
``decoding``, ``kv``, ``integrations``) and third-party libraries log through the standard library. Both end in the
one handler that :func:`configure_logging` installs, so that a line has the same fields wherever it comes from.
"""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Sequence
from types import TracebackType

import structlog
from structlog.typing import EventDict, Processor

from palimpsest.settings import Settings
from palimpsest.telemetry.tracing import trace_id

OURS = ("palimpsest", "services")
"""Packages that log at ``log_level``; third-party packages log at WARNING, or at ``log_level`` if higher."""


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


def configure_logging(settings: Settings) -> None:
    """Send every record and every uncaught exception of this process to stderr; call it again for another format."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,  # request_id, job: where the work was done for one
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = LineHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(settings)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _renderers(settings: Settings) -> Sequence[Processor]:
    if settings.log_json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # Plain: the pretty one prints local variables, and with them prompts and tokens.
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]


def _add_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    current = trace_id()
    if current:
        event["trace_id"] = current
    return event


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logging.getLogger("palimpsest").critical("uncaught exception", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(uncaught: threading.ExceptHookArgs) -> None:
    if uncaught.exc_value is None or issubclass(uncaught.exc_type, SystemExit):
        return
    logging.getLogger("palimpsest").critical(
        "uncaught exception in thread %s",
        uncaught.thread.name if uncaught.thread else "?",
        exc_info=(uncaught.exc_type, uncaught.exc_value, uncaught.exc_traceback),
    )
