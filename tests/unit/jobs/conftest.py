"""Stores on the real server, with a clock the test moves."""

from collections.abc import Iterator

import pytest
import redis

from palimpsest.jobs import JobStore
from palimpsest.settings import Settings
from tests.unit.jobs.harness import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.redis_url) as connection:
        yield connection


@pytest.fixture
def store(client: redis.Redis, settings: Settings, clock: Clock) -> JobStore:
    return JobStore(client, settings, clock=clock)
