"""Clients of other rooms that call them on behalf of this room's callers, with their tokens."""

import ipaddress
from dataclasses import dataclass
from typing import Any

import grpc

from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.client.methods import Method
from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.rpc.channel import Tls, client_target, open_aio_channel
from palimpsest.settings import DecodingSettings, Settings


class PeerClient:
    """One channel to another room, opened on first use.

    Parameters
    ----------
    settings
        This server's: its address and TLS files.
    target
        host:port of the server that hosts the room; empty: this server.
    """

    def __init__(self, settings: Settings, target: str) -> None:
        self._settings = settings
        self._target = target or client_target(settings.listen)
        self._channel: grpc.aio.Channel | None = None

    def connection(self, context: grpc.aio.ServicerContext) -> AsyncConnection:
        """A connection that carries the token of the call being served.

        Raises
        ------
        FailedPrecondition
            LISTENER_INSECURE: the token would leave this machine in plain text, and the settings do not allow it.
        """
        token = dict(context.invocation_metadata() or ()).get("authorization")
        settings = self._settings
        if token and not settings.tls_certificate and not settings.insecure and not _is_local(self._target):
            raise FailedPrecondition(
                Reason.LISTENER_INSECURE,
                f"Refusing to send a caller's token to {self._target} in plain text. Set PALIMPSEST_TLS_CERTIFICATE "
                "and PALIMPSEST_TLS_KEY, or, on a private network, PALIMPSEST_INSECURE=true.",
            )
        if self._channel is None:
            self._channel = open_aio_channel(self._target, tls=_tls(settings))
        return _OnBehalf(self._channel, settings.default_deadline, str(token) if token else "")

    async def close(self) -> None:
        """Close the channel; calls in progress end."""
        if self._channel is not None:
            await self._channel.close()


@dataclass(frozen=True)
class CallerRooms:
    """The rooms that a call may need, with the token of its caller."""

    _codec: PeerClient
    _datastore: PeerClient
    _context: grpc.aio.ServicerContext

    @property
    def codec(self) -> AsyncConnection:
        """A connection to the codec room; raises as :meth:`PeerClient.connection`."""
        return self._codec.connection(self._context)

    @property
    def datastore(self) -> AsyncConnection:
        """A connection to the datastore room; raises as :meth:`PeerClient.connection`."""
        return self._datastore.connection(self._context)


class Peers:
    """The rooms that this room calls: codec and datastore."""

    def __init__(self, settings: Settings, targets: DecodingSettings) -> None:
        self._codec = PeerClient(settings, targets.codec_target)
        self._datastore = PeerClient(settings, targets.datastore_target)

    def of(self, context: grpc.aio.ServicerContext) -> CallerRooms:
        """The rooms on behalf of the caller whose call is being served."""
        return CallerRooms(self._codec, self._datastore, context)

    async def close(self) -> None:
        """Close the channels to the codec and datastore rooms."""
        await self._codec.close()
        await self._datastore.close()


class _OnBehalf(AsyncConnection):
    """A connection whose calls carry the caller's token."""

    def __init__(self, channel: grpc.aio.Channel, deadline: float, authorization: str) -> None:
        super().__init__(channel, deadline)
        self._own = (("authorization", authorization),) if authorization else ()

    def _callable(self, method: Method) -> Any:
        begin = super()._callable(method)

        def call(*arguments: Any, metadata: tuple[tuple[str, str], ...] = (), **options: Any) -> Any:
            return begin(*arguments, metadata=(*metadata, *self._own), **options)

        return call


def _tls(settings: Settings) -> Tls | None:
    """Trust this server's own certificate, and present it under mutual TLS: all rooms share one installation."""
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
