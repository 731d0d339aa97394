"""Two thousand messages no client would send, over every method: an answer each, and never INTERNAL."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import descriptor, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc

from palimpsest.rpc.channel import open_aio_channel
from palimpsest.rpc.server import Server
from palimpsest.settings import Settings
from palimpsest.status import ended_while_sending
from palimpsest.telemetry.metrics import RPC_SECONDS
from services.__main__ import load, room_names

MESSAGES = 2000
ACCEPTABLE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.UNIMPLEMENTED,  # Health.List, which the library declares and does not have
}
TEXTS = [
    "",
    "a",
    "x" * 70_000,
    "../../etc/passwd",
    "\x00",
    "é\u202e🦊",
    "operations/nobody",
    "sha256:" + "0" * 64,
]
TEXTS += [
    "tiny",
    "sample",
    "/etc",
    "hub:a/b",
    "-1",
    "NaN",
    "operations/",
    "state=RUNNING",
    "state=",
    "AND AND",
    "%s{0}",
]
INTEGERS = [0, 1, -1, 7, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 65, 1000]
REALS = [0.0, -0.0, 1.0, -1.0, 1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan, 0.5]


def value(field: Any, rng: random.Random, depth: int) -> Any:
    kind = field.cpp_type
    if kind == field.CPPTYPE_MESSAGE:
        return message(field.message_type, rng, depth + 1)
    if kind == field.CPPTYPE_STRING:
        text = rng.choice(TEXTS)
        return text.encode() if field.type == field.TYPE_BYTES else text
    if kind == field.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind == field.CPPTYPE_ENUM:
        return rng.choice([0, 1, 2, 3, 99, -5])
    if kind in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        return rng.choice(REALS)
    low, high = {
        field.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
        field.CPPTYPE_UINT32: (0, 2**32 - 1),
        field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
        field.CPPTYPE_UINT64: (0, 2**64 - 1),
    }[kind]
    return min(max(rng.choice(INTEGERS), low), high)


def message(kind: descriptor.Descriptor, rng: random.Random, depth: int = 0) -> Any:
    built = message_factory.GetMessageClass(kind)()
    if depth > 4:
        return built
    for field in kind.fields:
        if rng.random() < 0.4:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(rng.randrange(3)):
                held = value(field.message_type.fields_by_name["value"], rng, depth)
                getattr(built, field.name)[rng.choice(TEXTS)] = held
        elif field.is_repeated:
            for _ in range(rng.choice([0, 1, 2, 20])):
                item = value(field, rng, depth)
                if field.message_type is not None:
                    getattr(built, field.name).add().CopyFrom(item)
                else:
                    getattr(built, field.name).append(item)
        elif field.message_type is not None:
            getattr(built, field.name).CopyFrom(value(field, rng, depth))
        else:
            setattr(built, field.name, value(field, rng, depth))
    return built


def damage(raw: bytes, rng: random.Random) -> bytes:
    data = bytearray(raw or b"\x00")
    match rng.randrange(4):
        case 0:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            del data[rng.randrange(len(data)) :]
        case 2:
            data[rng.randrange(len(data)) :] = rng.randbytes(rng.randrange(1, 64))
        case 3:
            data.extend(rng.randbytes(rng.randrange(1, 32)))
    return bytes(data)


def every_method(services: list[descriptor.ServiceDescriptor]) -> list[descriptor.MethodDescriptor]:
    return [method for service in services for method in service.methods]


def our_services() -> list[descriptor.ServiceDescriptor]:
    from palimpsest.api.artifacts.v1 import artifacts_pb2
    from palimpsest.api.codec.v1 import codec_pb2
    from palimpsest.api.datastore.v1 import datastore_pb2
    from palimpsest.api.decoding.v1 import decoding_pb2
    from palimpsest.api.jobs.v1 import jobs_pb2
    from palimpsest.api.models.v1 import models_pb2

    files = [
        artifacts_pb2,
        codec_pb2,
        datastore_pb2,
        decoding_pb2,
        jobs_pb2,
        models_pb2,
        operations_pb2,
        health_pb2,
    ]
    return [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]


@pytest.fixture
async def target(settings: Settings) -> AsyncIterator[str]:
    server = Server(settings, [load(name) for name in room_names()])
    await server.start()
    yield f"127.0.0.1:{server.port}"
    await server.stop(grace=0.5)


async def send(
    channel: grpc.aio.Channel, method: descriptor.MethodDescriptor, bodies: list[bytes]
) -> grpc.StatusCode:
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = (bool(method.client_streaming), bool(method.server_streaming))
    opener = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[kind](path)
    call = opener(iter(bodies) if kind[0] else bodies[0], timeout=2.0)
    try:
        if kind[1]:
            async for _ in call:
                break
            call.cancel()
            return grpc.StatusCode.OK
        await call
        return grpc.StatusCode.OK
    except grpc.aio.AioRpcError as error:
        # What the server said is lost then; that it was nothing bad shows in its own count below.
        return grpc.StatusCode.CANCELLED if ended_while_sending(error) else error.code()


def bugs_served() -> float:
    """Calls that this process's servers have answered as bugs of their own; other tests make some on purpose."""
    served = [s for m in RPC_SECONDS.collect() for s in m.samples if s.name.endswith("_count")]
    return sum(s.value for s in served if s.labels["code"] in ("INTERNAL", "UNKNOWN"))


async def test_malformed_messages_never_break_the_server(target):
    rng, before = random.Random(20260117), bugs_served()
    methods = every_method(our_services())
    seen: Counter[tuple[str, str]] = Counter()
    async with open_aio_channel(target) as channel:
        limit = asyncio.Semaphore(16)

        async def one(method: descriptor.MethodDescriptor, bodies: list[bytes]) -> None:
            async with limit:
                code = await send(channel, method, bodies)
                seen[method.full_name, code.name] += 1
                assert code in ACCEPTABLE, (method.full_name, code, bodies)

        work = []
        for index in range(MESSAGES):
            method = methods[index % len(methods)]
            bodies = [
                message(method.input_type, rng).SerializeToString()
                for _ in range(rng.randrange(1, 4) if method.client_streaming else 1)
            ]
            if rng.random() < 0.5:
                bodies = [damage(body, rng) for body in bodies]
            work.append(one(method, bodies))
        await asyncio.gather(*work)
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert sum(seen.values()) == MESSAGES
    assert bugs_served() == before
    refused = sum(count for (_, code), count in seen.items() if code == "INVALID_ARGUMENT")
    assert refused > MESSAGES // 4  # the generator does make messages worth refusing
