"""What every room is handed when it starts: settings, Redis, jobs, artefacts, models."""

from dataclasses import dataclass

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from palimpsest.artifacts import ArtifactStore
from palimpsest.errors import Reason, Unavailable
from palimpsest.jobs import AsyncJobStore
from palimpsest.models import ModelCatalogue
from palimpsest.settings import Settings


@dataclass(frozen=True, slots=True)
class Resources:
    """Shared by all rooms of one server process.

    ``redis`` and ``jobs`` are asyncio; ``artifacts``, ``models`` and ``blocking_redis``, which rooms build catalogues
    of their own over, block, so servers call them through ``asyncio.to_thread``.
    """

    settings: Settings
    redis: AsyncRedis
    blocking_redis: Redis
    jobs: AsyncJobStore
    artifacts: ArtifactStore
    models: ModelCatalogue

    @classmethod
    def open(cls, settings: Settings) -> "Resources":
        """Connect lazily: nothing is asked of Redis before the first use.

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
        asynchronous = AsyncRedis.from_url(settings.redis_url, socket_connect_timeout=5)
        blocking = Redis.from_url(settings.redis_url, socket_connect_timeout=5)
        return cls(
            settings=settings,
            redis=asynchronous,
            blocking_redis=blocking,
            jobs=AsyncJobStore(asynchronous, settings),
            artifacts=ArtifactStore.from_settings(settings, blocking),
            models=ModelCatalogue(blocking, settings.redis_prefix),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.jobs.close()
        await self.redis.aclose()
