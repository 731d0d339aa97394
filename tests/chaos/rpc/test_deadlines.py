"""No call outlives its deadline, whatever becomes of the server: killed or frozen under calls of every kind."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from google.protobuf import descriptor_pool

from palimpsest import AsyncClient, Client, errors
from palimpsest.api.artifacts.v1 import artifacts_pb2
from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.client.methods import Method
from palimpsest.rpc.channel import CONVERSATIONS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

DEADLINE = 5.0
LATEST = 40.0
"""Seconds until every call must have ended: the deadline, and much for a busy machine. What hung, hung for ever."""
EACH = 4
ENDS = (errors.Unavailable, errors.DeadlineExceeded, errors.Cancelled)


@contextmanager
def silent_server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "tests.chaos.rpc.silent_server"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}", process
    finally:
        process.kill()
        process.wait()


def load(name: str) -> codec_pb2.LoadContextRequest:
    return codec_pb2.LoadContextRequest(begin=codec_pb2.LoadContextRequest.Begin(name=name))


def opening() -> artifacts_pb2.WriteArtifactRequest:
    return artifacts_pb2.WriteArtifactRequest(open=artifacts_pb2.WriteArtifactRequest.Open(upload_id="u"))


def blocking(client: Client, release: threading.Event) -> dict[str, Callable[[], Any]]:
    """Calls of every kind; ``release`` lets their own iterators end."""

    def after(first: Any) -> Iterator[Any]:
        yield first
        release.wait()

    return {
        "unary": lambda: client.decoding.score(model="m", text="x", timeout=DEADLINE),
        "silent stream": lambda: list(client.decoding.generate(model="m", prompt="x", timeout=DEADLINE)),
        "stream": lambda: list(client.decoding.generate(model="m", prompt="talk", timeout=DEADLINE)),
        "upload": lambda: client.artifacts.write_artifact(after(opening()), timeout=DEADLINE),
        "silent conversation": lambda: list(
            client.codec.load_context(after(load("contexts/x")), timeout=DEADLINE)
        ),
        "half conversation": lambda: list(
            client.codec.load_context(iter([load("contexts/x")]), timeout=DEADLINE)
        ),
        "conversation": lambda: list(
            client.codec.load_context(after(load("contexts/talk")), timeout=DEADLINE)
        ),
    }


def disturb(process: subprocess.Popen[str], how: signal.Signals) -> None:
    process.send_signal(how)
    if how == signal.SIGKILL:
        process.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_blocking_calls_end_by_their_deadline(how):
    release = threading.Event()
    outcomes: dict[str, list[BaseException]] = {}
    with silent_server() as (target, process), Client(target) as client:

        def run(kind: str, call: Callable[[], Any]) -> None:
            try:
                call()
            except BaseException as error:
                outcomes.setdefault(kind, []).append(error)

        calls = blocking(client, release)
        threads = {
            (kind, number): threading.Thread(target=run, args=(kind, call), daemon=True)
            for kind, call in calls.items()
            for number in range(EACH)
        }
        for thread in threads.values():
            thread.start()
        next(iter(client.decoding.generate(model="m", prompt="talk", timeout=DEADLINE)))  # they have begun
        disturb(process, how)
        latest = threading.Event()
        timer = threading.Timer(LATEST, latest.set)
        timer.start()
        for thread in threads.values():
            while thread.is_alive() and not latest.is_set():
                thread.join(0.05)
        timer.cancel()
        hanging = sorted({kind for (kind, _), thread in threads.items() if thread.is_alive()})
        release.set()
        assert hanging == []
    assert {kind: len(errors) for kind, errors in outcomes.items()} == dict.fromkeys(calls, EACH)
    assert [each for ended in outcomes.values() for each in ended if not isinstance(each, ENDS)] == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_asyncio_calls_do_too(how):
    async def after(first: Any) -> AsyncIterator[Any]:
        yield first
        await asyncio.Event().wait()

    async def drain(stream: Any) -> None:
        async for _ in stream:
            pass

    with silent_server() as (target, process):
        async with AsyncClient(target) as client:
            calls = []
            for _ in range(EACH):
                calls += [
                    client.decoding.score(model="m", text="x", timeout=DEADLINE),
                    drain(client.decoding.generate(model="m", prompt="x", timeout=DEADLINE)),
                    client.artifacts.write_artifact(after(opening()), timeout=DEADLINE),
                    drain(client.codec.load_context(after(load("contexts/x")), timeout=DEADLINE)),
                ]
            tasks = [asyncio.ensure_future(call) for call in calls]
            async with client.decoding.generate(model="m", prompt="talk", timeout=DEADLINE) as stream:
                await anext(stream)
            disturb(process, how)
            _, hanging = await asyncio.wait(tasks, timeout=LATEST)
            assert not hanging
            assert [task.exception() for task in tasks if not isinstance(task.exception(), ENDS)] == []


def test_conversations_are_listed():
    """The list without retries is that of the contract, and of reflection."""
    pool = descriptor_pool.Default()
    both = set()
    for name in CONVERSATIONS[:-1]:
        method = Method.named(name.replace("/", "."))
        assert method.sends_stream
        assert method.receives_stream
    for area in ("artifacts", "codec", "datastore", "decoding", "jobs", "models"):
        for service in pool.FindFileByName(
            f"palimpsest/api/{area}/v1/{area}.proto"
        ).services_by_name.values():
            for method in service.methods:
                if method.client_streaming and method.server_streaming:
                    both.add(f"{service.full_name}/{method.name}")
    assert both == set(CONVERSATIONS[:-1])
