"""The gateway's process: ``python -m services.gateway`` serves until SIGTERM; ``--check`` asks one that runs here."""

import argparse
import ssl

import structlog
import uvicorn

from palimpsest.embedded.probes import accepts
from palimpsest.errors import FailedPrecondition, PalimpsestError, Reason
from palimpsest.rpc.channel import client_target
from palimpsest.rpc.tls import require_safe_listener, server_credentials
from palimpsest.settings import GatewaySettings, Settings
from palimpsest.telemetry import configure_tracing
from palimpsest.telemetry.logs import configure_logging
from palimpsest.telemetry.metrics import serve_metrics
from services.gateway.app import create_app
from services.gateway.backend import Backend

_log = structlog.get_logger("services.gateway")  # run as a program, __name__ is another


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM, or exit with 0 if a gateway accepts connections at this address."""
    parser = argparse.ArgumentParser(prog="python -m services.gateway", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="serve nothing; say whether a gateway listens here"
    )
    settings, gateway = Settings(), GatewaySettings()
    if parser.parse_args(argv).check:
        raise SystemExit(0 if accepts(client_target(gateway.listen)) else 1)
    configure_logging(settings)
    configure_tracing("gateway")
    try:
        config = configured(settings, gateway)
        metrics = serve_metrics(settings)
    except PalimpsestError as error:
        _log.error("not serving", reason=error.reason, error=str(error))
        raise SystemExit(1) from None
    _log.info("serving", listen=gateway.listen)
    uvicorn.Server(config).run()
    if metrics is not None:
        metrics.shutdown()


def configured(settings: Settings, gateway: GatewaySettings) -> uvicorn.Config:
    """What uvicorn serves, and where.

    Raises
    ------
    FailedPrecondition
        ADDRESS_INVALID: no host:port. LISTENER_INSECURE: other machines can reach the address, in plain text.
        TLS_FILES: a file of the certificate is missing or unusable.
    """
    host, _, port = gateway.listen.rpartition(":")
    if not host or not port.isdigit():
        raise FailedPrecondition(
            Reason.ADDRESS_INVALID,
            f"PALIMPSEST_GATEWAY_LISTEN is {gateway.listen!r}; it has to be host:port, such as 127.0.0.1:7680.",
        )
    here = settings.model_copy(update={"listen": gateway.listen})
    encrypted = server_credentials(here) is not None  # the same checks of the files as every server's
    if not encrypted:
        require_safe_listener(here)
    return uvicorn.Config(
        create_app(Backend(settings), gateway),
        host=host.strip("[]"),
        port=int(port),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        # Longer than clients keep an idle connection: none of them sends into one that is just being closed.
        timeout_keep_alive=75,
        # A stream that runs on may finish, as in the rooms.
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        ssl_certfile=settings.tls_certificate if encrypted else None,
        ssl_keyfile=settings.tls_key if encrypted else None,
        ssl_ca_certs=str(settings.tls_client_ca) if settings.tls_client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if settings.tls_client_ca else ssl.CERT_NONE,
    )
