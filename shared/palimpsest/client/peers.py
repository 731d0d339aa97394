"""Calls from one room to another, for the caller the work is done for.

A server passes on the identity of the call it serves (:class:`PeerClient`). A job has no call to serve: it uses the
installation's service token and names the caller it works for (:func:`client_for`). Either way the other room sees that
caller, and nothing but what belongs to that caller.

``PALIMPSEST_PEERS`` says where the other rooms are. With TLS, a peer has to show this installation's own certificate.
"""

import ipaddress
from collections.abc import Mapping

import grpc

from palimpsest.client.aio.client import AsyncClient
from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.client.blocking.client import Client
from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.rpc.channel import ON_BEHALF_OF, Tls, client_target, open_aio_channel, parse_targets
from palimpsest.settings import Settings

Metadata = tuple[tuple[str, str | bytes], ...]


def peer_targets(settings: Settings) -> dict[str, str]:
    """Return the addresses of the rooms, as ``parse_targets`` does; without ``peers``, all are in this server.

    Raises
    ------
    ValueError
        ``peers`` is malformed.
    """
    here, peers = client_target(settings.listen), settings.peers.strip()
    if "=" in peers.partition(",")[0]:  # names rooms only; the others are here
        peers = f"{here},{peers}"
    return parse_targets(peers or here)


def client_for(principal: str, settings: Settings, *, timeout: float | None = None) -> Client:
    """Return a client whose calls are made on behalf of a principal; close it, or use it as a context manager.

    ::

        with client_for(job.principal, job.resources.settings) as peers:
            corpus = peers.datastore.get_corpus(name=request.corpus)

    Such calls are held to no quota of the principal's, and take none of its places: the job was admitted instead.

    Parameters
    ----------
    principal
        The caller to act for, such as ``JobContext.principal``.
    settings
        ``peers``, ``service_token`` and the TLS files.
    timeout
        Deadline of calls that answer once, in seconds.

    Raises
    ------
    FailedPrecondition
        SERVICE_TOKEN_MISSING: this installation asks callers for tokens, and the worker has none of its own.
        LISTENER_INSECURE: the token would leave this machine unencrypted.
    """
    text, tls, metadata = _way_for(principal, settings)
    return Client(text, tls=tls or False, timeout=timeout, metadata=metadata)


def async_client_for(principal: str, settings: Settings, *, timeout: float | None = None) -> AsyncClient:
    """The asyncio twin of :func:`client_for`."""
    text, tls, metadata = _way_for(principal, settings)
    return AsyncClient(text, tls=tls or False, timeout=timeout, metadata=metadata)


def _way_for(principal: str, settings: Settings) -> tuple[str, Tls | None, Metadata]:
    """Where the rooms are, how they are verified, and what tells them for whom a job calls."""
    targets = peer_targets(settings)
    metadata: Metadata = ((ON_BEHALF_OF, principal.encode()),)
    if settings.service_token:
        for target in targets.values():
            _require_private(target, settings)
        metadata += (("authorization", f"Bearer {settings.service_token}"),)
    elif settings.tokens_file is not None:
        raise FailedPrecondition(
            Reason.SERVICE_TOKEN_MISSING,
            "PALIMPSEST_SERVICE_TOKEN is not set, and the rooms ask for a token: set it to a token of the tokens file "
            "that has the scope 'impersonate'.",
        )
    text = ",".join(f"{room}={target}" if room else target for room, target in targets.items())
    return text, _tls(settings), metadata


class PeerClient:
    """One channel from a server to another room, opened on first use.

    Parameters
    ----------
    settings
        This server's: addresses and TLS files.
    room
        Such as ``"codec"``.
    """

    def __init__(self, settings: Settings, room: str) -> None:
        self._settings = settings
        targets = peer_targets(settings)
        self._target = targets.get(room, targets[""])
        self._channel: grpc.aio.Channel | None = None

    def connection(self, context: grpc.aio.ServicerContext) -> AsyncConnection:
        """Return a connection with the identity of the call being served.

        Raises
        ------
        FailedPrecondition
            LISTENER_INSECURE: the caller's token would leave this machine unencrypted.
        """
        received: Mapping[str, str | bytes] = dict(context.invocation_metadata() or ())  # type: ignore[arg-type]
        passed_on = tuple((key, received[key]) for key in ("authorization", ON_BEHALF_OF) if key in received)
        return self.connection_as(passed_on)

    def connection_as(self, identity: Metadata) -> AsyncConnection:
        """Return a connection whose calls have this metadata; raises as :meth:`connection` does."""
        if any(key == "authorization" for key, _ in identity):
            _require_private(self._target, self._settings)
        if self._channel is None:
            self._channel = open_aio_channel(self._target, tls=_tls(self._settings))
        return AsyncConnection(self._channel, self._settings.default_deadline, identity)

    async def close(self) -> None:
        """Close the channel; running calls end."""
        if self._channel is not None:
            await self._channel.close()


def _require_private(target: str, settings: Settings) -> None:
    if settings.tls_certificate or settings.insecure or _is_local(target):
        return
    raise FailedPrecondition(
        Reason.LISTENER_INSECURE,
        f"A token is not sent to {target} in plain text: set PALIMPSEST_TLS_CERTIFICATE and PALIMPSEST_TLS_KEY, or, on "
        "a private network, PALIMPSEST_INSECURE=true.",
    )


def _tls(settings: Settings) -> Tls | None:
    """Trust our own certificate, and present it to servers that require one: all rooms belong to one installation."""
    if settings.tls_certificate is None:
        return None
    mutual = settings.tls_client_ca is not None
    return Tls(
        ca=settings.tls_certificate,
        certificate=settings.tls_certificate if mutual else None,
        key=settings.tls_key if mutual else None,
    )


def _is_local(target: str) -> bool:
    host = target.rpartition(":")[0].strip("[]")
    if target.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
