"""One request, one trace: from the client through the server and the job's record to the worker."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from palimpsest import AsyncClient
from palimpsest.jobs import JobStore, WorkerResources
from palimpsest.jobs.runner import Runner
from palimpsest.rpc.server import Server
from palimpsest.settings import Settings
from palimpsest.telemetry import span
from services.__main__ import load
from services.worker import find_handler

REGISTER = "/palimpsest.api.models.v1.ModelService/RegisterModel"


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """What this process exports; its provider stays, as OpenTelemetry takes only one."""
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    yield memory
    provider.shutdown()


async def test_client_server_and_worker_share_a_trace(
    exporter: InMemorySpanExporter, settings: Settings, tiny_model: Path
):
    server = Server(settings, [load("registry")])
    await server.start()
    try:
        async with AsyncClient(f"127.0.0.1:{server.port}") as client:
            with span("a user's request"):
                job = await client.models.register_model(model_id="traced", source=str(tiny_model))
        blocking = redis.Redis.from_url(settings.redis_url)
        runner = Runner(
            JobStore(blocking, settings), WorkerResources(settings, blocking), find_handler, "here:1:trace"
        )
        await asyncio.to_thread(runner.run, job.name.removeprefix("operations/"))
    finally:
        await server.stop(grace=0.5)
    spans = exporter.get_finished_spans()
    (root,) = [s for s in spans if s.name == "a user's request"]
    assert root.context is not None
    mine = [s for s in spans if s.context is not None and s.context.trace_id == root.context.trace_id]
    kinds = {(s.name, s.kind.name) for s in mine}
    assert {(REGISTER, "CLIENT"), (REGISTER, "SERVER"), ("models.register", "CONSUMER")} <= kinds
    (worker,) = [s for s in mine if s.name == "models.register"]
    assert worker.attributes is not None
    assert worker.attributes["job"] == job.name.removeprefix("operations/")
