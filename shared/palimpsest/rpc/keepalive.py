"""How often the two ends of a connection ask each other whether they are still there: one table for both.

A client that pings more often than its server allows is cut off after two strikes, with every call of the connection
(gRPC's servers allow one in five minutes unless they are told otherwise). A server that does not ask keeps the calls,
and the places, of clients that have vanished.
"""

INTERVAL = 60.0
"""Seconds of silence after which either end asks."""
PATIENCE = 20.0
"""Seconds after which an end that does not answer counts as gone."""


def client_keepalive(interval: float = INTERVAL) -> list[tuple[str, object]]:
    """Return the channel options of a client: it asks while it has calls."""
    return [
        ("grpc.keepalive_time_ms", _ms(interval)),
        ("grpc.keepalive_timeout_ms", _ms(PATIENCE)),
        # Without a message in between, too: whoever watches may hear nothing for hours.
        ("grpc.http2.max_pings_without_data", 0),
    ]


def server_keepalive(interval: float = INTERVAL) -> list[tuple[str, object]]:
    """Return the options of a server whose clients ask every ``interval`` seconds; it asks as often itself."""
    return [
        ("grpc.keepalive_time_ms", _ms(interval)),
        ("grpc.keepalive_timeout_ms", _ms(PATIENCE)),
        ("grpc.http2.max_pings_without_data", 0),
        # Half of it: pings that were held up arrive close together. The name lacks the "recv" of its documentation, and
        # gRPC ignores names it does not know.
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(interval / 2)),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
