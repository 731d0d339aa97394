"""One run: a stack, thousands of messages over a socket, the jobs they queue, and what went wrong."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from google.longrunning import operations_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from palimpsest import AsyncClient
from palimpsest.embedded.stack import Stack
from palimpsest.errors import Code, Reason
from palimpsest.rpc.auth import hash_token
from palimpsest.rpc.channel import ON_BEHALF_OF, open_aio_channel
from palimpsest.settings import Settings
from palimpsest.status import ended_while_sending, from_rpc_error, from_status
from tests.fuzz.messages import Drawer, World, damaged
from tests.fuzz.worlds import build_world
from tests.waiting import until_async

DEADLINE = 4.0
HANG = 20.0
"""Seconds after which a call whose deadline was ``DEADLINE`` has not ended."""
MOST_RESPONSES = 20
AT_ONCE = 8
BAD_CODES = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}
BAD_REASONS = {Reason.BUG, Reason.REQUEST_FAILED, Reason.ENGINE_FAILED, Reason.ATTEMPTS_EXHAUSTED}
SCOPES = {"fuzz": ["*"], "reader": ["models.read", "codec.read"], "nothing": [], "jobs": ["impersonate"]}
"""Callers of a run with a tokens file; everybody's token is their name."""


@dataclass
class Outcome:
    """What a run saw.

    Attributes
    ----------
    codes
        Calls by method and status code.
    jobs
        Jobs by kind and how they ended.
    wrong
        Every fault, with what led to it.
    rss
        The server's resident memory in bytes, at a tenth of the messages, two tenths, and so on.
    """

    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)


def every_method() -> list[Any]:
    """Every method of every service that a server has."""
    from palimpsest.api.artifacts.v1 import artifacts_pb2
    from palimpsest.api.codec.v1 import codec_pb2
    from palimpsest.api.datastore.v1 import datastore_pb2
    from palimpsest.api.decoding.v1 import decoding_pb2
    from palimpsest.api.grafting.v1 import grafting_pb2
    from palimpsest.api.jobs.v1 import jobs_pb2
    from palimpsest.api.models.v1 import models_pb2
    from palimpsest.api.unlearning.v1 import unlearning_pb2

    files = [
        artifacts_pb2,
        codec_pb2,
        datastore_pb2,
        decoding_pb2,
        grafting_pb2,
        jobs_pb2,
        models_pb2,
        unlearning_pb2,
        operations_pb2,
        health_pb2,
    ]
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    return [method for service in services for method in service.methods]


async def run(
    folder: Path, messages: int, seed: int, *, tokens: bool = False, job_seconds: float = 120.0
) -> Outcome:
    """Start a stack under a folder, send that many messages, let their jobs end, and look for faults."""
    settings = Settings(
        state_dir=folder / "state",
        redis_url="",
        listen="127.0.0.1:0",
        threads=1,
        drain_seconds=1.0,
        log_json=True,
        engine_cache_bytes=64 << 20,
        tokens_file=_tokens_file(folder) if tokens else None,
        service_token="jobs" if tokens else "",
    )
    stack = Stack(settings)
    await asyncio.to_thread(stack.start)
    try:
        outcome = Outcome()
        async with AsyncClient(stack.target, token="fuzz" if tokens else None) as client:
            world = await build_world(client, folder)
            await _send_all(stack, world, messages, random.Random(seed), tokens, outcome)
            await _end_jobs(client, job_seconds, outcome)
        async with open_aio_channel(stack.target) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            if answer.status != health_pb2.HealthCheckResponse.SERVING:
                outcome.wrong.append("the server does not report SERVING at the end")
        outcome.wrong += [f"{child.name} was restarted" for child in stack.status() if child.restarts]
        outcome.wrong += [*_logged(stack.logs / "server.log"), *_logged(stack.logs / "worker.log")]
        return outcome
    finally:
        await asyncio.to_thread(stack.stop)


def _tokens_file(folder: Path) -> Path:
    entries = [{"name": n, "sha256": hash_token(n), "scopes": scopes} for n, scopes in SCOPES.items()]
    (folder / "tokens.json").write_text(json.dumps({"tokens": entries}))
    return folder / "tokens.json"


async def _send_all(
    stack: Stack, world: World, messages: int, rng: random.Random, tokens: bool, outcome: Outcome
) -> None:
    methods, drawer = every_method(), Drawer(rng, world)
    limit = asyncio.Semaphore(AT_ONCE)
    server = next(child.pid for child in stack.status() if child.name == "server")
    async with open_aio_channel(stack.target) as channel:

        async def one(method: Any, bodies: list[bytes], metadata: list[tuple[str, str | bytes]]) -> None:
            try:
                call = _call(channel, method, bodies, metadata)
                code, said = await asyncio.wait_for(call, HANG)
            except TimeoutError:
                code, said = None, f"no end after {HANG} s"
            finally:
                limit.release()
            outcome.codes[method.full_name, code.name if code else "HANG"] += 1
            if code is None or code in BAD_CODES:
                outcome.wrong.append(f"{method.full_name}: {code}: {said}: {bodies!r:.2000}")

        async with asyncio.TaskGroup() as group:
            for index in range(messages):
                method = methods[index % len(methods)]
                bodies = [request.SerializeToString() for request in drawer.requests(method)]
                if rng.random() < 0.15:
                    bodies = [damaged(body, rng) for body in bodies]
                await limit.acquire()
                group.create_task(one(method, bodies, _metadata(rng, tokens)))
                if (index + 1) % max(1, messages // 10) == 0 and server is not None:
                    outcome.rss.append(psutil.Process(server).memory_info().rss)


def _metadata(rng: random.Random, tokens: bool) -> list[tuple[str, str | bytes]]:
    found: list[tuple[str, str | bytes]] = []
    if tokens:
        name = rng.choice(["fuzz"] * 16 + ["reader", "nothing", "nobody", "jobs"])
        found += [
            ("authorization", rng.choice([f"Bearer {name}"] * 40 + [name, "Bearer", "Bearer  ", "Basic x"]))
        ]
        if name == "jobs":
            behalf = rng.choice([b"fuzz", b"reader", b"", b"\xff\xfe", "٣".encode(), b"x" * 500])
            found.append((ON_BEHALF_OF, behalf))
    if rng.random() < 0.1:
        found.append(("x-request-id", rng.choice(["", "a", "x" * 1000, "a b", "../..", "%s"])))
    if rng.random() < 0.1:
        found.append(
            (
                "traceparent",
                rng.choice(["", "00-0-0-0", "00-" + "f" * 32 + "-" + "f" * 16 + "-01", "x" * 500]),
            )
        )
    return found


async def _call(
    channel: grpc.aio.Channel, method: Any, bodies: list[bytes], metadata: list[tuple[str, str | bytes]]
) -> tuple[grpc.StatusCode, str]:
    """Call a method with bytes; returns how it ended, and what was said."""
    open_call: Any = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[bool(method.client_streaming), bool(method.server_streaming)]
    call = open_call(f"/{method.containing_service.full_name}/{method.name}")(
        _paced(bodies) if method.client_streaming else bodies[0], timeout=DEADLINE, metadata=metadata
    )
    try:
        if not method.server_streaming:
            await call
            return grpc.StatusCode.OK, ""
        received = 0
        async for _ in call:
            received += 1
            if received == MOST_RESPONSES:
                call.cancel()
                break
        return grpc.StatusCode.OK, ""
    except grpc.aio.AioRpcError as error:
        if ended_while_sending(error):
            return grpc.StatusCode.CANCELLED, ""  # what the server said is lost; its log is read at the end
        return error.code(), str(from_rpc_error(error))


async def _paced(bodies: list[bytes]) -> AsyncIterator[bytes]:
    for body in bodies:
        yield body


async def _end_jobs(client: AsyncClient, seconds: float, outcome: Outcome) -> None:
    """Let queued jobs end; cancel those that have not after some time; note how each ended."""

    async def unfinished() -> list[Any]:
        found = []
        for state in ("QUEUED", "RUNNING"):
            found += [job async for job in _operations(client, f"state={state}")]
        return found

    async def none() -> bool:
        return not await unfinished()

    try:
        await until_async(none, timeout=seconds, interval=0.5)
    except AssertionError:
        for operation in await unfinished():
            await client.jobs.cancel(operation.name)
        await until_async(none, timeout=60.0, interval=0.5)
    async for operation in _operations(client, ""):
        kind = _kind(operation)
        if not operation.HasField("error"):
            outcome.jobs[kind, "OK"] += 1
            continue
        error = from_status(operation.error)
        outcome.jobs[kind, error.reason] += 1
        if error.code in (Code.INTERNAL, Code.UNKNOWN) or error.reason in BAD_REASONS:
            outcome.wrong.append(f"job {kind}: {error}")


async def _operations(client: AsyncClient, query: str) -> AsyncIterator[Any]:
    token = ""
    while True:
        page = await client.jobs.list(filter=query, page_size=100, page_token=token)
        for operation in page.operations:
            yield operation
        token = page.next_page_token
        if not token:
            return


def _kind(operation: Any) -> str:
    from palimpsest.api.jobs.v1 import jobs_pb2

    metadata = jobs_pb2.JobMetadata()
    operation.metadata.Unpack(metadata)
    return metadata.kind


def _logged(path: Path) -> list[str]:
    """Faults in a log: calls that ended INTERNAL or UNKNOWN, and exceptions."""
    found = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            if line.startswith(("Traceback", "Fatal")):
                found.append(f"{path.name}: {line}")
            continue
        bad = entry.get("code") in ("INTERNAL", "UNKNOWN") or entry.get("level") in ("error", "critical")
        if bad or "exception" in entry:
            found.append(f"{path.name}: {line[:3000]}")
    return found
