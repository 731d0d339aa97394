"""What the gateway measures of every request: how many, how they ended, how long they took."""

import time

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter("palimpsest_http_requests_total", "HTTP requests by their end.", ["endpoint", "status"])
SECONDS = Histogram(
    "palimpsest_http_seconds",
    "Time from the request's arrival to its end; a stream's whole life.",
    ["endpoint"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
FIRST_EVENT_SECONDS = Histogram(
    "palimpsest_http_first_byte_seconds",
    "Time from the request's arrival to the first byte of the answer's body.",
    ["endpoint"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
RUNNING = Gauge("palimpsest_http_running", "HTTP requests being answered now.")
_LEFT = "499"
"""Status of a request whose caller left before its answer began."""


class Measured:
    """Measures requests around an application; endpoints are the routes' own, so that a caller cannot make new ones."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, and measure it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, first = time.monotonic(), _LEFT, 0.0

        async def sent(message: Message) -> None:
            nonlocal status, first
            if message["type"] == "http.response.start":
                status = str(message["status"])
            elif not first:
                first = time.monotonic() - began
            await send(message)

        RUNNING.inc()
        try:
            await self._app(scope, receive, sent)
        finally:
            RUNNING.dec()
            route = scope.get("route")
            endpoint = route.path if route is not None else "none"
            REQUESTS.labels(endpoint, status).inc()
            SECONDS.labels(endpoint).observe(time.monotonic() - began)
            if first:
                FIRST_EVENT_SECONDS.labels(endpoint).observe(first)


async def metrics(request: Request) -> Response:
    """``GET /metrics``: counts of all callers together, and nothing of what they send."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
