"""Logs, metrics and traces, the same in every process.

Logs always; ``/metrics`` where ``PALIMPSEST_METRICS_LISTEN`` names an address; traces where OpenTelemetry is
installed and ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set (or a test installs an exporter of its own).
"""

from palimpsest.telemetry.tracing import configure_tracing, extract, inject, span

__all__ = ["configure_tracing", "extract", "inject", "span"]
