"""The rooms that a call needs, with the token of its caller."""

from collections.abc import Callable
from dataclasses import dataclass

from palimpsest.client.aio.connection import AsyncConnection


@dataclass(frozen=True)
class CallerRooms:
    """Connections to other rooms on behalf of one caller, opened on first use.

    Parameters
    ----------
    connect_codec, connect_datastore
        Return a connection; raise FailedPrecondition (LISTENER_INSECURE) where the caller's token would leave this
        machine in plain text.
    """

    connect_codec: Callable[[], AsyncConnection]
    connect_datastore: Callable[[], AsyncConnection]

    @property
    def codec(self) -> AsyncConnection:
        """A connection to the codec room."""
        return self.connect_codec()

    @property
    def datastore(self) -> AsyncConnection:
        """A connection to the datastore room."""
        return self.connect_datastore()
