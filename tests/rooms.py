"""What tests of single rooms start with: settings of their own on the shared Valkey, and a worker's resources."""

import uuid
from pathlib import Path

import redis

from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.jobs import WorkerResources
from palimpsest.models import register
from palimpsest.progress import NullProgress
from palimpsest.settings import Settings


def room_settings(valkey: ValkeyServer, folder: Path, **changes: object) -> Settings:
    """Settings that share nothing with other tests but the Valkey; float32 on one thread of the processor."""
    plain = Settings(
        state_dir=folder,
        redis_url=valkey.url,
        redis_prefix=f"test-{uuid.uuid4().hex[:12]}:",
        listen="127.0.0.1:0",
        threads=1,
        drain_seconds=1.0,
        device="cpu",
        dtype="float32",
        engine_cache_bytes=64 << 20,
    )
    return plain.model_copy(update=changes)


def worker_resources(settings: Settings, **models: Path) -> WorkerResources:
    """What a worker has, with models registered by id."""
    resources = WorkerResources(settings, redis.Redis.from_url(settings.redis_url))
    for name, path in models.items():
        register(name, str(path), resources.models, settings, NullProgress())
    return resources
