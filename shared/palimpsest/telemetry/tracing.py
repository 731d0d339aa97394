"""One trace from client through server and queue to worker, by the W3C ``traceparent`` header.

Without OpenTelemetry every function here does nothing, so that the client need not bring it.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token
from typing import Any

try:
    from opentelemetry import context as otel_context
    from opentelemetry import propagate, trace
except ImportError:  # the client alone is installed
    otel_context = propagate = trace = None


@contextmanager
def span(name: str, *, kind: str = "INTERNAL", **attributes: str | int | float | bool) -> Iterator[Any]:
    """Run the body inside a span; an exception that leaves it is recorded.

    Parameters
    ----------
    name
        Low in cardinality: a method or a job kind, never an id.
    kind
        OpenTelemetry's SpanKind: INTERNAL, CLIENT, SERVER, PRODUCER or CONSUMER.
    attributes
        Ids and figures.
    """
    if trace is None:
        yield None
        return
    tracer = trace.get_tracer("palimpsest")
    with tracer.start_as_current_span(name, kind=trace.SpanKind[kind], attributes=attributes) as current:
        yield current


def inject() -> dict[str, str]:
    """Return the headers that carry the current trace; none outside one."""
    headers: dict[str, str] = {}
    if propagate is not None:
        propagate.inject(headers)
    return headers


@contextmanager
def extract(headers: Mapping[str, str]) -> Iterator[None]:
    """Make the trace that headers carry the current one for the body."""
    if otel_context is None or propagate is None:
        yield
        return
    token: Token[Any] = otel_context.attach(propagate.extract(headers))
    try:
        yield
    finally:
        otel_context.detach(token)


def trace_id() -> str | None:
    """Return the current trace's id in hexadecimal, for log lines; None outside a trace."""
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def configure_tracing(service: str) -> None:
    """Export spans by OTLP if the environment says where to; call it once a process, after any fork.

    Parameters
    ----------
    service
        ``service.name`` of the spans: "server", "worker", or a room.
    """
    if trace is None or not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"palimpsest-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
