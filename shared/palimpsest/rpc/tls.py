"""Safe listeners: TLS off loopback, and certificates that rotate without a restart."""

import contextlib
import ipaddress
import threading
from pathlib import Path

import grpc
import structlog

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.settings import Settings

_log = structlog.get_logger(__name__)


class CertificateFiles:
    """The server's certificate and key, and its clients' authority, in files that may be replaced at any time.

    Parameters
    ----------
    certificate, key
        PEM files; the certificate may be a chain.
    client_ca
        PEM file of the authorities whose certificates clients must present (mutual TLS); None: no certificate required.

    Raises
    ------
    FailedPrecondition
        A file is missing or holds no PEM block.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._paths = [p for p in (certificate, key, client_ca) if p is not None]
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._lock = threading.Lock()
        self._version = self._stat()
        self._configuration = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that check the files on every handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            self._fetch,  # type: ignore[arg-type]  # None is documented to keep the configuration in use
            require_client_authentication=self._client_ca is not None,
        )

    def _stat(self) -> list[tuple[int, int, int]]:
        try:
            return [(s.st_ino, s.st_mtime_ns, s.st_size) for s in (p.stat() for p in self._paths)]
        except OSError as error:
            raise FailedPrecondition(Reason.TLS_FILES, f"A TLS file cannot be read: {error}") from error

    def _read(self) -> grpc.ServerCertificateConfiguration:
        try:
            blobs = [p.read_bytes() for p in self._paths]
        except OSError as error:
            raise FailedPrecondition(Reason.TLS_FILES, f"A TLS file cannot be read: {error}") from error
        for path, blob in zip(self._paths, blobs, strict=True):
            if b"-----BEGIN " not in blob:
                raise FailedPrecondition(Reason.TLS_FILES, f"{path} holds no PEM block.")
        return grpc.ssl_server_certificate_configuration(
            [(blobs[1], blobs[0])], root_certificates=blobs[2] if self._client_ca else None
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        # gRPC calls this on its own threads, for each handshake. None keeps the configuration in use, which is also the
        # answer while a rotation is half done: the next handshake checks again.
        with self._lock:
            try:
                version = self._stat()
                if version == self._version:
                    return None
                self._configuration = self._read()
            except FailedPrecondition as error:
                _log.warning("tls files unusable; keeping the certificate in use", error=str(error))
                return None
            self._version = version
            _log.info("certificate reloaded", certificate=str(self._certificate))
            return self._configuration


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return the server's TLS credentials; None for a plaintext server.

    Raises
    ------
    FailedPrecondition
        Only one of certificate and key is set, or a file cannot be used.
    """
    if settings.tls_certificate is None and settings.tls_key is None and settings.tls_client_ca is None:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        raise FailedPrecondition(
            Reason.TLS_FILES, "TLS needs both PALIMPSEST_TLS_CERTIFICATE and PALIMPSEST_TLS_KEY."
        )
    return CertificateFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca).credentials()


def require_safe_listener(settings: Settings) -> None:
    """Refuse a plaintext listener that other machines can reach, unless ``insecure`` allows it explicitly."""
    host = settings.listen.rpartition(":")[0].strip("[]")
    local = settings.listen.startswith("unix:") or host == "localhost"
    with contextlib.suppress(ValueError):
        local = local or ipaddress.ip_address(host).is_loopback
    if not local and not settings.insecure:
        raise FailedPrecondition(
            Reason.LISTENER_INSECURE,
            f"Refusing to listen on {settings.listen} in plain text: other machines can reach it. Listen on "
            "127.0.0.1, set PALIMPSEST_TLS_CERTIFICATE and PALIMPSEST_TLS_KEY, or, on a private network, "
            "PALIMPSEST_INSECURE=true.",
        )
