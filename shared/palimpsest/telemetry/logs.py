"""Logs: one event a line on stderr, as text for people or JSON for machines; what does not fit there is dropped.

Servers, rooms and jobs log through structlog. What can be used without the server's packages (``lm``, ``engine``,
``decoding``, ``kv``, ``integrations``) and third-party libraries log through the standard library. Both end in the
one handler that :func:`configure_logging` installs, so that a line has the same fields wherever it comes from.
"""

import logging
import sys
import threading
from collections.abc import Sequence
from types import TracebackType

import structlog
from structlog.typing import EventDict, Processor

from palimpsest.settings import Settings
from palimpsest.telemetry.lines import LineHandler
from palimpsest.telemetry.tracing import trace_id

OURS = ("palimpsest", "services")
"""Packages that log at ``log_level``; third-party packages log at WARNING, or at ``log_level`` if higher."""


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
