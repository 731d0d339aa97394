"""Client channels: addresses, retries, keepalive and credentials, the same for every caller."""

import json
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.experimental

from palimpsest.rpc.keepalive import client_keepalive

CONVERSATIONS = (
    "palimpsest.api.codec.v1.CodecService/LoadContext",
    "palimpsest.api.codec.v1.CodecService/EncodeCache",
    "palimpsest.api.codec.v1.CodecService/DecodeCache",
    "palimpsest.api.datastore.v1.DatastoreService/AddDocuments",
    "palimpsest.api.datastore.v1.DatastoreService/WatchDeletions",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
"""Methods in which both sides send streams: never retried, see :data:`_RETRY`."""

_RETRY = {
    "methodConfig": [
        # When the last attempt of a call that has heard nothing fails, gRPC drops the reads that were waiting: the
        # status arrives, the read never ends, and a blocking caller waits for ever. Blocking calls whose answer is a
        # stream escape that by `SingleThreadedUnaryStream`; for conversations there is nothing like it.
        {"name": [dict(zip(("service", "method"), name.split("/"), strict=True)) for name in CONVERSATIONS]},
        {
            # Every other method. The policy must be inside methodConfig: elsewhere gRPC ignores it silently. Retries
            # happen only where the server did not do the work; mutations carry a request_id.
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                # CANCELLED from the server: it was stopping just as the call arrived. A caller's own
                # cancellation ends the call here and is not retried.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        },
    ]
}


ON_BEHALF_OF = "x-palimpsest-on-behalf-of-bin"
"""Call metadata: the principal, in UTF-8, that a service token makes the call for; see ``rpc/auth.py``."""


def channel_options() -> list[tuple[str, object]]:
    """Return the options of every channel: the retry policy and keepalive. Message limits stay gRPC's own."""
    return [
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps(_RETRY)),
        *client_keepalive(),
        # A restarted local server should be found at once, not after a growing pause. The least backoff stays gRPC's
        # own, 20 s: it is not a pause but the time an attempt may take, TLS handshake included.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]


def parse_targets(text: str) -> dict[str, str]:
    """Return the addresses of the rooms in text: ``host:port``, and ``room=host:port`` for each room elsewhere.

    ``"127.0.0.1:7600,decoding=127.0.0.1:7601"`` gives ``{"": "127.0.0.1:7600", "decoding": "127.0.0.1:7601"}``;
    the key ``""`` holds the address of every other room.

    Raises
    ------
    ValueError
        No address for the other rooms, or two for one.
    """
    targets: dict[str, str] = {}
    room = ""
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, target = part.rpartition("=")
        if (
            not separator and room in targets
        ):  # one more address of the same servers: ipv4:10.0.0.1:1,10.0.0.2:1
            targets[room] += f",{target}"
            continue
        room = name.strip() if separator else ""
        if room in targets or not target.strip():
            raise ValueError(f"{text!r}: expected host:port[,room=host:port ...], each room once")
        targets[room] = target.strip()
    if "" not in targets:
        raise ValueError(f"{text!r} names no server for the rooms it leaves out; begin with host:port")
    return targets


def client_target(listen: str) -> str:
    """Return the address a client on this machine uses for a server that listens on listen."""
    host, _, port = listen.rpartition(":")
    return {"0.0.0.0": f"127.0.0.1:{port}", "[::]": f"[::1]:{port}"}.get(host, listen)


@dataclass(frozen=True, slots=True)
class Tls:
    """Files with which a client verifies the server and identifies itself.

    Attributes
    ----------
    ca
        PEM file of the authorities to trust; None: the system's.
    certificate, key
        PEM files of the client's own certificate, for servers that require one.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises
        ------
        OSError
            A file cannot be read.
        """
        return grpc.ssl_channel_credentials(
            self.ca.read_bytes() if self.ca else None,
            self.key.read_bytes() if self.key else None,
            self.certificate.read_bytes() if self.certificate else None,
        )


class _Bearer(grpc.AuthMetadataPlugin):
    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        callback(self._metadata, None)


def _credentials(target: str, token: str | None, tls: Tls | None) -> grpc.ChannelCredentials | None:
    """Credentials for the channel; None for a plain one."""
    if tls is not None:
        base = tls.credentials()
    elif token is not None:
        # Call credentials refuse plain text. Local credentials allow it on loopback and unix sockets only, so a token
        # never leaves the machine unencrypted.
        kind = (
            grpc.LocalConnectionType.UDS if target.startswith("unix:") else grpc.LocalConnectionType.LOCAL_TCP
        )
        base = grpc.local_channel_credentials(kind)
    else:
        return None
    if token is None:
        return base
    return grpc.composite_channel_credentials(base, grpc.metadata_call_credentials(_Bearer(token)))


def open_channel(target: str, *, token: str | None = None, tls: Tls | None = None) -> grpc.Channel:
    """Open a channel to ``host:port`` or ``unix:/path``.

    Without tls the connection is plain, and a token is sent over loopback and unix sockets only.
    """
    credentials = _credentials(target, token, tls)
    # Each stream of answers is read by the thread that waits for it: no thread between them can lose its end.
    options = [*channel_options(), (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)]
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def open_aio_channel(target: str, *, token: str | None = None, tls: Tls | None = None) -> grpc.aio.Channel:
    """The asyncio twin of :func:`open_channel`."""
    credentials = _credentials(target, token, tls)
    if credentials is None:
        return grpc.aio.insecure_channel(target, channel_options())
    return grpc.aio.secure_channel(target, credentials, channel_options())
