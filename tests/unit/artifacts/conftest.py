"""Stores over a real Valkey, on a disk and behind fsspec's memory file system."""

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from palimpsest.artifacts import ArtifactStore
from palimpsest.embedded.valkey import ValkeyServer


@pytest.fixture
def client(valkey: ValkeyServer) -> redis.Redis:
    return redis.Redis.from_url(valkey.url)


@pytest.fixture
def make_store(client: redis.Redis, redis_prefix: str, tmp_path: Path) -> Callable[..., ArtifactStore]:
    def make(url: str = "", **options: object) -> ArtifactStore:
        url = url or (tmp_path / "store").as_uri()
        return ArtifactStore(url, client, prefix=redis_prefix, local=tmp_path / "local", **options)

    return make


@pytest.fixture
def store(make_store: Callable[..., ArtifactStore]) -> ArtifactStore:
    return make_store()


@pytest.fixture(params=["disk", "memory"])
def any_store(request: pytest.FixtureRequest, make_store: Callable[..., ArtifactStore]) -> ArtifactStore:
    return make_store("" if request.param == "disk" else f"memory://{uuid.uuid4().hex}/artefacts")
