"""The gateway in a thread of this process, over rooms that are somewhere."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from palimpsest.embedded.probes import accepts, free_address
from palimpsest.settings import GatewaySettings, Settings
from services.gateway.server import configured
from tests.waiting import until


@contextmanager
def gateway_over(settings: Settings, **changes: object) -> Iterator[str]:
    """Serve the gateway; gives its URL.

    Parameters
    ----------
    settings
        Whose ``listen`` is where the rooms are.
    changes
        Of the gateway's settings.
    """
    listen = free_address("127.0.0.1:0", exact=True)
    server = uvicorn.Server(configured(settings, GatewaySettings(listen=listen, **changes)))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: accepts(listen))
    scheme = "https" if settings.tls_certificate else "http"
    try:
        yield f"{scheme}://{listen}"
    finally:
        server.should_exit = True
        thread.join(20)
