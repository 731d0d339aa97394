"""Crowding: what one caller's idle streams, queued jobs and corpora cost another caller, against the real stack.

``python -m tests.benchmarks.crowding`` takes a few minutes. Alice opens 300 idle uploads, one of them of 64 GiB, queues
10,000 jobs and makes 100 corpora. Bob asks for health, generates, uploads and lists jobs, there and on an idle server.
"""

import hashlib
import json
import queue
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from palimpsest import Client
from palimpsest.api.artifacts.v1 import artifacts_pb2 as pb
from palimpsest.embedded.stack import Stack
from palimpsest.errors import PalimpsestError
from palimpsest.rpc.channel import open_channel
from palimpsest.settings import Settings
from tests.benchmarks.figures import Figures, percentile
from tests.tiny import write_tiny_model

STREAMS, JOBS, CORPORA = 300, 10_000, 100
ROUNDS, WARM_UP = 400, 50
ACTIONS = ("health", "generate", "upload", "list jobs")
UPLOAD = "/palimpsest.api.artifacts.v1.ArtifactService/WriteArtifact"
SETTINGS = {
    "threads": 1,
    "drain_seconds": 1.0,
    "log_level": "WARNING",
    "job_queue_limit": 2 * JOBS,
    # Nobody serves the model jobs, so that Alice's wait, and take no core of the machine that is measured.
    "worker_queues": "cpu",
}


def write_tokens(path: Path, *names: str) -> None:
    """A tokens file in which each name's token is ``<name>-token``."""
    hashes = {name: hashlib.sha256(f"{name}-token".encode()).hexdigest() for name in names}
    entries = [{"name": name, "sha256": digest, "scopes": ["*"]} for name, digest in hashes.items()]
    path.write_text(json.dumps({"tokens": entries}))


class Crowd:
    """What Alice does, and keeps doing until the block ends."""

    def __init__(self, target: str) -> None:
        self._stack = ExitStack()
        self._client = self._stack.enter_context(Client(target, token="alice-token"))
        self._channel = self._stack.enter_context(open_channel(target, token="alice-token"))
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.refused = 0

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_error: object) -> None:
        for _ in range(STREAMS):
            self._ended.put(None)
        self._stack.close()

    def idle(self) -> None:
        """Begin the uploads, and send nothing more."""

        def messages(number: int) -> Iterator[bytes]:
            size = 64 << 30 if number == 0 else 0
            part = pb.WriteArtifactRequest.Open(upload_id=f"idle-{number}", size_bytes=size)
            yield pb.WriteArtifactRequest(open=part).SerializeToString()
            self._ended.get()

        method = self._channel.stream_unary(UPLOAD)
        calls = [method.future(messages(number)) for number in range(STREAMS)]
        time.sleep(5)
        for call in calls:
            if call.done():
                self.refused += call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    def jobs(self) -> None:
        """Queue them; each is another one's work."""
        artifact = self._client.artifacts.upload(b'{"prompt": "x"}\n', media_type="application/jsonl")
        for number in range(JOBS):
            self._client.decoding.generate_batch(
                model="crowd", input=artifact.digest, sampling={"seed": number}
            )

    def corpora(self) -> None:
        """Make them, empty."""
        for number in range(CORPORA):
            self._client.datastore.create_corpus(corpus_id=f"crowd-{number}", model="crowd")


class Bob:
    """The other caller on one server, and the seconds that his calls take."""

    def __init__(self, target: str, opened: ExitStack) -> None:
        self.client = opened.enter_context(Client(target, token="bob-token"))
        channel = opened.enter_context(open_channel(target, token="bob-token"))
        stub: Any = health_pb2_grpc.HealthStub(channel)
        self.errors = 0
        self.seconds: dict[str, list[float]] = {name: [] for name in ACTIONS}
        self._calls: dict[str, Callable[[int], object]] = {
            "health": lambda _: stub.Check(health_pb2.HealthCheckRequest(), timeout=30),
            "generate": lambda n: list(
                self.client.decoding.generate(
                    model="crowd", prompt=f"text {n}", max_tokens=8, ignore_eos=True
                )
            ),
            "upload": lambda n: self.client.artifacts.upload(str(n).encode() * 512),
            "list jobs": lambda _: list(self.client.jobs.list(page_size=10).operations),
        }

    def act(self, number: int, kept: bool) -> None:
        """Each call once."""
        for name in ACTIONS:
            began = time.perf_counter()
            try:
                self._calls[name](number)
            except (PalimpsestError, grpc.RpcError):
                self.errors += 1
            if kept:
                self.seconds[name].append(time.perf_counter() - began)


def start(folder: Path, opened: ExitStack) -> tuple[str, Settings]:
    """A stack with two callers and a small model; return its address and settings."""
    folder.mkdir()
    write_tokens(folder / "tokens.json", "alice", "bob")
    settings = Settings(
        state_dir=folder / "state", redis_url="", listen="127.0.0.1:0", tokens_file=folder / "tokens.json"
    ).model_copy(update=SETTINGS)
    target = opened.enter_context(Stack(settings)).target
    with Client(target, token="bob-token") as client:
        client.models.register_model(model_id="crowd", source=str(folder.parent / "model")).result(
            timeout=120
        )
    return target, settings


def main() -> None:
    """Crowd one of two servers, and call both in turn: what else the machine does meets both alike."""
    figures = Figures("crowding")
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        folder = Path(name)
        (folder / "model").mkdir()
        write_tiny_model(folder / "model")
        idle_target, _ = start(folder / "idle", opened)
        crowded_target, settings = start(folder / "crowded", opened)
        idle, crowded = Bob(idle_target, opened), Bob(crowded_target, opened)
        crowd = opened.enter_context(Crowd(crowded_target))
        crowd.corpora()
        crowd.jobs()
        crowd.idle()
        for number in range(WARM_UP + ROUNDS):
            for bob in (idle, crowded) if number % 2 else (crowded, idle):
                bob.act(number, number >= WARM_UP)
        began = time.perf_counter()
        crowded.client.artifacts.collect_garbage(dry_run=True).result(timeout=120)
        figures.figure(
            "the other caller's job in a queue that is served, seconds", time.perf_counter() - began
        )
        uploads = sum(path.stat().st_size for path in (settings.state_dir / "artifacts").rglob("data"))
    figures.gate("calls of the other caller that failed", "== 0", crowded.errors)
    figures.gate("bytes held by uploads that sent none", "== 0", uploads)
    figures.figure("idle streams refused", crowd.refused)
    for name in ACTIONS:
        pair = [each.seconds[name] for each in (idle, crowded)]
        before, after = (percentile(values, 0.99) for values in pair)
        figures.gate(f"{name}: p99 crowded / p99 idle", "<= 2", after / before)
        figures.figure(f"{name}: p99 idle, crowded in ms", [round(1000 * v, 2) for v in (before, after)])
        medians = [round(1000 * statistics.median(values), 2) for values in pair]
        figures.figure(f"{name}: median idle, crowded in ms", medians)
    figures.write()


if __name__ == "__main__":
    main()
