"""The rooms that this room calls, on behalf of its own callers."""

from dataclasses import dataclass

import grpc

from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.client.peers import PeerClient
from palimpsest.settings import Settings


@dataclass(frozen=True)
class CallerRooms:
    """The rooms that a call may need, with the identity of its caller."""

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

    def __init__(self, settings: Settings) -> None:
        self._codec, self._datastore = PeerClient(settings, "codec"), PeerClient(settings, "datastore")

    def of(self, context: grpc.aio.ServicerContext) -> CallerRooms:
        """The rooms on behalf of the caller whose call is being served."""
        return CallerRooms(self._codec, self._datastore, context)

    async def close(self) -> None:
        """Close the channels to the codec and datastore rooms."""
        await self._codec.close()
        await self._datastore.close()
