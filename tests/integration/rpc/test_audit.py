"""Nothing is changed without its line in the audit log: over a real socket, on a disk that is really full."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2

from palimpsest.api.decoding.v1 import decoding_pb2 as pb
from palimpsest.api.decoding.v1 import decoding_pb2_grpc
from palimpsest.errors import PalimpsestError, ResourceExhausted, Unavailable
from palimpsest.rpc.audit import AuditLog
from palimpsest.rpc.auth import Authenticator
from palimpsest.rpc.channel import open_aio_channel
from palimpsest.rpc.pipeline import Pipeline
from palimpsest.settings import Settings
from palimpsest.status import from_rpc_error
from tests.disks import SmallDisk, small_disk

DIGEST = "sha256:" + "0" * 64


class Room(decoding_pb2_grpc.DecodingServiceServicer):
    """GenerateBatch changes something, Score does not; ``disk_full`` makes the former fill the disk."""

    def __init__(self, audit: Path) -> None:
        self.audit = audit
        self.changed: list[str] = []
        self.lines: list[dict[str, Any]] = []
        self.disk: SmallDisk | None = None

    async def Score(self, request: Any, context: Any) -> Any:
        return pb.ScoreResponse(perplexity=1.0)

    async def GenerateBatch(self, request: Any, context: Any) -> Any:
        self.lines = read(self.audit)
        self.changed.append(dict(context.invocation_metadata())["x-request-id"])
        if self.disk is not None:
            pad(self.audit)
            self.disk.fill()
        return operations_pb2.Operation(name="operations/1")


def read(audit: Path) -> list[dict[str, Any]]:
    """Every line of the log; each has to be JSON."""
    return [json.loads(line) for line in audit.read_text().splitlines()]


def pad(audit: Path) -> None:
    """Fill the last page of the log with a line that is none of a call's."""
    line = json.dumps({"event": "pad", "code": ""}) + "\n"
    room = -audit.stat().st_size % os.sysconf("SC_PAGE_SIZE")
    if room:
        with audit.open("a") as file:
            file.write(" " * (room - len(line)) + line if room >= len(line) else " " * room)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 1) as disk:
        yield disk


@asynccontextmanager
async def served(audit: Path) -> AsyncIterator[tuple[Room, decoding_pb2_grpc.DecodingServiceStub, AuditLog]]:
    log, room = AuditLog(audit), Room(audit)
    server = grpc.aio.server(
        interceptors=[Pipeline(Settings(redis_url="unix:///nowhere"), Authenticator(None), log)]
    )
    decoding_pb2_grpc.add_DecodingServiceServicer_to_server(room, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with open_aio_channel(f"127.0.0.1:{port}") as channel:
            yield room, decoding_pb2_grpc.DecodingServiceStub(channel), log
    finally:
        await server.stop(0)
        log.close()


async def change(stub: decoding_pb2_grpc.DecodingServiceStub, name: str) -> PalimpsestError | None:
    request = pb.GenerateBatchRequest(model="m", input=DIGEST)
    try:
        await stub.GenerateBatch(request, metadata=(("x-request-id", name),), timeout=20)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    return None


async def test_the_line_is_there_before_the_call_begins(tmp_path: Path):
    audit = tmp_path / "audit.jsonl"
    async with served(audit) as (room, stub, _):
        assert await change(stub, "r-1") is None
    begun, ended = read(audit)
    assert room.lines == [begun]
    assert (begun["event"], begun["request_id"], "code" in begun) == ("begun", "r-1", False)
    assert ended == begun | {"event": "ended", "code": "OK", "time": ended["time"]}


async def test_a_full_disk_refuses_what_changes_something_and_nothing_else(disk: SmallDisk):
    audit = disk.root / "audit.jsonl"
    async with served(audit) as (room, stub, _):
        assert await change(stub, "before") is None
        disk.fill()
        asked, error = 0, None
        while error is None:  # the last page of the log has room for a few lines
            asked, error = asked + 1, await change(stub, f"r-{asked}")
        assert isinstance(error, ResourceExhausted)
        assert error.reason == "DISK_FULL"
        assert str(audit) in error.message
        assert "free space" in error.message
        assert error.retry_after
        changed = list(room.changed)
        assert len(changed) == asked
        for n in range(3):
            assert isinstance(await change(stub, f"again-{n}"), ResourceExhausted)
            assert (await stub.Score(pb.ScoreRequest(model="m"), timeout=20)).perplexity == 1.0
        assert room.changed == changed
        disk.empty()
        assert await change(stub, "after") is None
    lines = read(audit)
    assert [line["request_id"] for line in lines if line["event"] == "begun"] == [*changed, "after"]
    ended = {line["call"]: line["code"] for line in lines if line["event"] == "ended" and line["call"]}
    assert ended == {line["call"]: "OK" for line in lines if line["event"] == "begun"}


async def test_an_end_that_does_not_fit_is_written_when_there_is_room(disk: SmallDisk):
    audit = disk.root / "audit.jsonl"
    async with served(audit) as (room, stub, _):
        room.disk = disk
        assert await change(stub, "fills") is None, "the work is done: its answer is not the log's business"
        assert [line["event"] for line in read(audit)] == ["begun", "pad"]
        room.disk = None
        disk.empty()
        assert await change(stub, "next") is None
    told = [(line["request_id"], line["event"]) for line in read(audit) if line["event"] != "pad"]
    assert told == [("fills", "begun"), ("fills", "ended"), ("next", "begun"), ("next", "ended")]


async def test_a_log_that_cannot_be_written_for_another_reason_refuses_too(tmp_path: Path):
    audit = tmp_path / "audit.jsonl"
    async with served(audit) as (room, stub, log):
        reading = os.open(audit, os.O_RDONLY)
        os.dup2(reading, log._file)
        error = await change(stub, "r-1")
        assert isinstance(error, Unavailable)
        assert error.reason == "AUDIT_UNWRITABLE"
        assert room.changed == []
        os.close(reading)


def test_half_a_line_of_a_machine_that_lost_power_spoils_no_other(tmp_path: Path):
    audit = tmp_path / "audit.jsonl"
    audit.write_text('{"time": "2026-01-01T00:0')
    log = AuditLog(audit)
    log._write(b'{"event": "x"}\n')
    log.close()
    assert audit.read_text().splitlines() == ['{"time": "2026-01-01T00:0', '{"event": "x"}']
