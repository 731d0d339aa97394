"""Batches run by their handler, with real artefacts: in the worker's own engine, or in a decoding room."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import redis

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.jobs import JobContext, WorkerResources
from palimpsest.progress import NullProgress
from palimpsest.settings import Settings
from services.decoding import tasks


class Watched(NullProgress):
    """Remembers what was reported, and raises when told to."""

    def __init__(self, resume=None, stop: Callable[[int], None] = lambda done: None) -> None:
        super().__init__(resume)
        self.steps: list[tuple[int, int]] = []
        self.published: list[str] = []
        self._stop = stop

    def step(self, done: int, total: int, stage: str = "") -> None:
        self.steps.append((done, total))
        self._stop(done)

    def publish(self, digest: str) -> None:
        self.published.append(digest)


QUICK = {"dtype": "float32", "device": "cpu", "engine_cache_bytes": 8 << 20, "drain_seconds": 1.0}


def resources_of(settings: Settings) -> WorkerResources:
    return WorkerResources(settings, redis.Redis.from_url(settings.redis_url))


_loops: list[asyncio.AbstractEventLoop] = []


def run_kept_open(main: Coroutine[Any, Any, Any]) -> Any:
    """Run on an event loop that is never closed.

    gRPC has one poller for all loops of a process, and logs errors where one of them is closed while another, here the
    server's, goes on. A worker has no other.
    """
    _loops.append(asyncio.new_event_loop())
    return _loops[-1].run_until_complete(main)


def run(resources, lines: list[object], progress=None, **fields) -> tuple[pb.GenerateBatchResponse, bytes]:
    data = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    request = pb.GenerateBatchRequest(
        model="tiny", input=resources.artifacts.put_bytes(data).digest, **{"max_tokens": 8, **fields}
    )
    job = JobContext("job", "local", 1, progress or Watched(), resources)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "run", run_kept_open)
        response = tasks.generate_batch(request, job)
    return response, resources.artifacts.read_bytes(response.output.digest)
