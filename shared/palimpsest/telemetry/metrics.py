"""Prometheus metrics of a server process, and the address they are read at."""

from wsgiref.simple_server import WSGIServer

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.settings import Settings

RPC_SECONDS = Histogram(
    "palimpsest_rpc_seconds",
    "Time from the call's arrival to its end; a stream's whole life.",
    ["service", "method", "code"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
RPC_RUNNING = Gauge("palimpsest_rpc_running", "Calls being served now.")
ARTIFACT_BYTES = Counter("palimpsest_artifact_bytes_total", "Artefact bytes moved over gRPC.", ["direction"])


def serve_metrics(settings: Settings) -> WSGIServer | None:
    """Serve ``/metrics`` on its own thread; None if no address is set.

    Raises
    ------
    FailedPrecondition
        The address is taken or malformed.
    """
    if not settings.metrics_listen:
        return None
    host, _, port = settings.metrics_listen.rpartition(":")
    try:
        server, _thread = start_http_server(int(port), addr=host.strip("[]") or "127.0.0.1")
    except (OSError, ValueError) as error:
        raise FailedPrecondition(
            Reason.METRICS_ADDRESS, f"Cannot serve metrics on {settings.metrics_listen}: {error}"
        ) from error
    return server
