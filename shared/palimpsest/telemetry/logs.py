"""Logs: one event a line, as text for people or JSON for machines."""

import logging
import sys
from collections.abc import MutableMapping

import structlog

from palimpsest.settings import Settings
from palimpsest.telemetry.tracing import trace_id


def configure_logging(settings: Settings) -> None:
    """Send structlog's events, and the standard library's warnings, to stderr."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(
        stream=sys.stderr, level=max(level, logging.WARNING), format="%(levelname)s %(name)s %(message)s"
    )
    if settings.log_json:
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        renderers = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # Plain: the pretty one prints local variables, and with them prompts and tokens.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _add_trace(
    _logger: object, _method: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    current = trace_id()
    if current:
        event["trace_id"] = current
    return event
