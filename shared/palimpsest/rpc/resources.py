"""What every room receives when it starts: settings, Redis, jobs, artefacts, models, and one way to queue work."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from palimpsest.artifacts import ArtifactStore, ArtifactView
from palimpsest.errors import Reason, Unavailable
from palimpsest.jobs import AsyncJobStore
from palimpsest.jobs.submission import job_spec
from palimpsest.models import ModelCatalogue
from palimpsest.rpc.auth import ADMIN_ARTIFACTS
from palimpsest.rpc.calls import call
from palimpsest.settings import Settings


@dataclass(frozen=True, slots=True)
class Resources:
    """Shared by all rooms of one server process.

    ``jobs`` is asyncio. ``redis`` (for catalogues of a room's own), ``artifacts`` and ``models`` block, as they do in a
    worker's ``WorkerResources``, so servers call them through ``asyncio.to_thread``.
    """

    settings: Settings
    redis: Redis
    jobs: AsyncJobStore
    artifacts: ArtifactStore
    models: ModelCatalogue

    @classmethod
    def open(cls, settings: Settings) -> "Resources":
        """Build the resources. Connections are made on first use.

        Raises
        ------
        Unavailable
            No Redis is configured.
        """
        if not settings.redis_url:
            raise Unavailable(
                Reason.JOB_STORE_UNAVAILABLE,
                "PALIMPSEST_REDIS_URL is not set; `palimpsest up` starts an embedded Valkey and sets it.",
            )
        blocking = Redis.from_url(settings.redis_url, socket_connect_timeout=5)
        return cls(
            settings=settings,
            redis=blocking,
            jobs=AsyncJobStore(AsyncRedis.from_url(settings.redis_url, socket_connect_timeout=5), settings),
            artifacts=ArtifactStore.from_settings(settings, blocking),
            models=ModelCatalogue(blocking, settings.redis_prefix),
        )

    def callers_artifacts(self) -> ArtifactView:
        """The artefacts that the caller of the call being served may see."""
        caller = call()
        return ArtifactView(self.artifacts, caller.principal, caller.has(ADMIN_ARTIFACTS))

    async def submit(
        self,
        kind: str,
        request: Message,
        *,
        needs: str = "cpu",
        inputs: Sequence[str] = (),
        action: Mapping[str, object] | None = None,
        ignore: Sequence[str] = (),
    ) -> operations_pb2.Operation:
        """Queue a job for the call being served, and return its operation.

        The parameters are those of :func:`palimpsest.jobs.submission.job_spec`, which says what makes two submissions
        equal. A job reads no artefact that its caller may not see: the inputs are looked up for the caller first.

        Raises
        ------
        NotFound
            ARTIFACT_NOT_FOUND: an input does not exist to the caller, or is being deleted.
        DataLoss
            ARTIFACT_CORRUPT: an input is damaged.
        InvalidArgument
            REQUEST_ID_REUSED, JOB_TOO_LARGE.
        ResourceExhausted
            JOB_QUEUE_FULL, QUOTA_EXCEEDED, JOB_STORE_FULL.
        """
        view = self.callers_artifacts()
        for digest in inputs:
            await asyncio.to_thread(view.stat, digest)
        spec = job_spec(
            kind,
            request,
            self.settings,
            principal=call().principal,
            needs=needs,
            inputs=inputs,
            action=action,
            ignore=ignore,
        )
        return (await self.jobs.submit(spec)).operation()

    async def close(self) -> None:
        """Close the connections."""
        await self.jobs.close()
        await self.jobs.redis.aclose()
        await asyncio.to_thread(self.redis.close)
