"""Stores on the real server, with a clock the test moves."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from palimpsest.jobs import JobSpec, JobStore
from palimpsest.jobs.calls import Claim
from palimpsest.jobs.record import JobRecord
from palimpsest.settings import Settings


@dataclass
class Clock:
    """Milliseconds, moved by hand."""

    now: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


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


def run_of(record: JobRecord | None) -> Claim:
    assert record is not None
    return Claim(record.id, record.attempt, record.owner, record.worker)


def echo(text: str = "hello", **fields: object) -> JobSpec:
    from google.protobuf.wrappers_pb2 import StringValue

    return JobSpec(kind="test.echo", request=StringValue(value=text), **fields)  # type: ignore[arg-type]
