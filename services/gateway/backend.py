"""The rooms behind the gateway: one channel to each, shared by all requests; each request brings its own token."""

import re
from dataclasses import dataclass

from palimpsest.client.aio.artifacts import AsyncArtifacts
from palimpsest.client.aio.datastore import AsyncDatastore
from palimpsest.client.aio.decoding import AsyncDecoding
from palimpsest.client.aio.job_room import AsyncJobs
from palimpsest.client.aio.rooms import AsyncModelsRoom
from palimpsest.client.peers import Metadata, PeerClient
from palimpsest.errors import Reason, Unauthenticated
from palimpsest.settings import Settings

_TOKEN = re.compile(r"Bearer [\x21-\x7e]{1,4096}")


@dataclass(frozen=True)
class Rooms:
    """The rooms as one caller reaches them."""

    artifacts: AsyncArtifacts
    datastore: AsyncDatastore
    decoding: AsyncDecoding
    jobs: AsyncJobs
    models: AsyncModelsRoom


class Backend:
    """Channels to the rooms of this installation, opened on first use.

    Parameters
    ----------
    settings
        ``peers`` or ``listen`` say where the rooms are; with TLS they have to show this installation's certificate.
    """

    def __init__(self, settings: Settings) -> None:
        names = ("artifacts", "datastore", "decoding", "jobs", "models")
        self._peers = {name: PeerClient(settings, name) for name in names}

    def rooms(self, authorization: str | None, request_id: str) -> Rooms:
        """The rooms for the caller of one HTTP request.

        Parameters
        ----------
        authorization
            The request's header of that name.
        request_id
            Under which the rooms log the calls.

        Raises
        ------
        Unauthenticated
            TOKEN_INVALID: the header holds no bearer token.
        FailedPrecondition
            LISTENER_INSECURE: the token would leave this machine unencrypted.
        """
        identity: Metadata = (("x-request-id", request_id),)
        kind, _, token = (authorization or "").strip().partition(" ")
        # Clients without a key send the word alone.
        if kind and (token or kind.lower() != "bearer"):
            passed_on = f"Bearer {token.strip()}"
            if kind.lower() != "bearer" or not _TOKEN.fullmatch(passed_on):
                raise Unauthenticated(
                    Reason.TOKEN_INVALID, "The header Authorization has to be: Bearer, a space and a token."
                )
            identity += (("authorization", passed_on),)
        to = {name: peer.connection_as(identity) for name, peer in self._peers.items()}
        return Rooms(
            artifacts=AsyncArtifacts(to["artifacts"]),
            datastore=AsyncDatastore(to["datastore"]),
            decoding=AsyncDecoding(to["decoding"]),
            jobs=AsyncJobs(to["jobs"]),
            models=AsyncModelsRoom(to["models"]),
        )

    async def close(self) -> None:
        """Close the channels; running calls end."""
        for peer in self._peers.values():
            await peer.close()
