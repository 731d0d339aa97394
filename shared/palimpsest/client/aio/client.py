"""The client: one connection, the rooms as attributes."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from google.longrunning import operations_pb2

from palimpsest.client.aio.artifacts import AsyncArtifacts
from palimpsest.client.aio.codec import AsyncCodec
from palimpsest.client.aio.concurrency import off_loop
from palimpsest.client.aio.connection import AsyncConnection
from palimpsest.client.aio.datastore import AsyncDatastore
from palimpsest.client.aio.decoding import AsyncDecoding
from palimpsest.client.aio.job_room import AsyncJobs
from palimpsest.client.aio.jobs import Anything, AsyncJob
from palimpsest.client.aio.rooms import AsyncGraftingRoom, AsyncModelsRoom, AsyncUnlearningRoom
from palimpsest.client.nearby import found
from palimpsest.rpc.channel import Tls, open_aio_channel, parse_targets
from palimpsest.settings import Settings


class AsyncClient:
    """A connection to a server; use it as a context manager, or close it.

    Every method raises :class:`palimpsest.errors.PalimpsestError` and its kinds, nothing of gRPC's. Calls
    that fail because the server is away are tried again for a moment; those that change something carry a
    request id, so that doing so is safe.

    Parameters
    ----------
    target
        ``host:port`` or ``unix:/path``; where rooms have servers of their own, those too, as
        ``host:port,decoding=host:port``. None: ``PALIMPSEST_SERVER``, with its token and TLS from the environment, else
        the stack that runs on this machine (:meth:`local` also starts one).
    token
        Bearer token. Without tls it is sent over loopback and unix sockets only.
    tls
        True for the system's authorities, or a :class:`Tls` that names files.
    timeout
        Deadline of calls that answer once, in seconds; by default ``PALIMPSEST_DEFAULT_DEADLINE`` or 30.
        Every method takes ``timeout=`` for itself too; streams have no deadline otherwise.
    metadata
        gRPC metadata sent with every call.

    Attributes
    ----------
    artifacts, codec, datastore, decoding, grafting, jobs, models, unlearning
        The rooms: ``client.<room>.<rpc_in_snake_case>(**request_fields)``.

    Raises
    ------
    Unavailable
        No target was given, and no stack runs here.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        token: str | None = None,
        tls: Tls | bool = False,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> None:
        if target is None:
            target, token, tls = found(token, tls)
        self.target = target
        files = Tls() if tls is True else tls or None
        deadline = timeout if timeout is not None else Settings().default_deadline
        self._connections = {
            room: AsyncConnection(open_aio_channel(where, token=token, tls=files), deadline, metadata)
            for room, where in parse_targets(target).items()
        }
        self._connection = self._connections[""]
        self.artifacts = AsyncArtifacts(self._to("artifacts"))
        self.codec = AsyncCodec(self._to("codec"), self.artifacts)
        self.datastore = AsyncDatastore(self._to("datastore"))
        self.decoding = AsyncDecoding(self._to("decoding"))
        self.grafting = AsyncGraftingRoom(self._to("grafting"))
        self.jobs = AsyncJobs(self._to("jobs"))
        self.models = AsyncModelsRoom(self._to("models"))
        self.unlearning = AsyncUnlearningRoom(self._to("unlearning"))

    @classmethod
    async def local(
        cls, settings: Settings | None = None, *, token: str | None = None, timeout: float | None = None
    ) -> Self:
        """Connect to the stack of this machine's state directory, starting it in the background if none runs.

        A stack started this way keeps running; ``palimpsest down`` stops it.

        Raises
        ------
        Unavailable
            It did not get ready; the message names its log.
        """
        from palimpsest.embedded.local import ensure_running

        settings = settings or Settings()
        target = await off_loop(ensure_running, settings)
        tls = Tls(ca=settings.tls_certificate) if settings.tls_certificate else False
        return cls(target, token=token, tls=tls, timeout=timeout)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target}>"

    def _to(self, room: str) -> AsyncConnection:
        return self._connections.get(room, self._connection)

    def job(self, name: str) -> Anything:
        """Return a handle on a job by its name (``operations/{id}``), without asking the server yet."""
        return AsyncJob(self._to("jobs"), operations_pb2.Operation(name=name))

    async def close(self) -> None:
        """Close the connection; calls still going on end as cancelled."""
        for connection in self._connections.values():
            await connection.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
