"""Decoding: one stream, eight streams, shared prefixes, and whether the front stays awake.

``python -m tests.benchmarks.decode`` takes about five minutes. Everything but the last part runs in one process,
interleaved; the last part starts the real server.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs
import redis
import torch
from torch.nn import functional as F

from palimpsest.embedded.valkey import ValkeyServer
from palimpsest.engine import Delta, Engine, Event, Finished, Request
from palimpsest.lm import LanguageModel, load
from palimpsest.lm.hardware import physical_cores
from palimpsest.models import ModelCatalogue, convert_gguf, register, sample_gguf
from palimpsest.progress import NullProgress
from palimpsest.settings import Settings
from tests.benchmarks.figures import ROOT, Figures, interleaved, percentile
from tests.benchmarks.floor import Floor

PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was",
    "def fibonacci(n):\n",
    "Water boils at",
    "The three laws of thermodynamics",
    "In 1969, humans",
    "A list of fruits:",
    "To be or not to be",
]
TOKENS = 48
ROUNDS = 5
FLOORS = 24


def sample_model() -> Path:
    """The sample model as safetensors, converted once."""
    return convert_gguf(sample_gguf(), Path(platformdirs.user_cache_dir("palimpsest-tests", appauthor=False)))


class Bench:
    """One model with its engine."""

    def __init__(self, path: Path, dtype: str, threads: int) -> None:
        self.model: LanguageModel = load(path, "cpu", dtype, threads=threads, cache_bytes=1 << 30)
        self.engine = Engine(self.model)
        self.tokenizer: Any = self.model.tokenizer

    def request(self, prompt: str | list[int], tokens: int = TOKENS) -> Request:
        ids = self.tokenizer(prompt).input_ids if isinstance(prompt, str) else prompt
        return Request(ids, max_tokens=tokens, ignore_eos=True)

    def run(self, requests: list[Request]) -> tuple[float, list[list[float]], list[list[int]]]:
        """Seconds until all are finished; times and ids of the tokens of each."""
        times: list[list[float]] = [[] for _ in requests]
        ids: list[list[int]] = [[] for _ in requests]
        left = threading.Semaphore(0)

        def deliver(n: int, events: list[Event]) -> None:
            for event in events:
                if isinstance(event, Delta):
                    times[n] += [time.perf_counter()] * len(event.token_ids)
                    ids[n] += event.token_ids
                elif isinstance(event, Finished):
                    left.release()

        start = time.perf_counter()
        for n, request in enumerate(requests):
            self.engine.submit(request, partial(deliver, n))  # type: ignore[arg-type]
        for _ in requests:
            left.acquire()
        return time.perf_counter() - start, times, ids

    def step_seconds(self, streams: int) -> float:
        """Seconds of one step with so many streams, between the first and the last token."""
        requests = [self.request(prompt) for prompt in PROMPTS[:streams]]
        _, times, _ = self.run(requests)
        first, last = max(t[0] for t in times), min(t[-1] for t in times)
        steps = sum(first < t <= last for t in times[0])
        return (last - first) / steps

    def stream_seconds(self) -> float:
        """Seconds per token of one whole request, prompt included."""
        return self.run([self.request(PROMPTS[0])])[0] / TOKENS

    def transformers_ids(self, prompt: str, tokens: int) -> list[int]:
        ids = self.tokenizer(prompt, return_tensors="pt").input_ids
        with torch.inference_mode():
            module: Any = self.model.module
            out = module.generate(
                ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0
            )  # fmt: skip
        return out[0, ids.shape[1] :].tolist()

    def transformers_seconds(self) -> float:
        start = time.perf_counter()
        self.transformers_ids(PROMPTS[0], TOKENS)
        return (time.perf_counter() - start) / TOKENS

    def floor_share(self) -> float:
        """Floor over step, each step of one stream followed at once by a pass of the floor: both see the same load."""
        assert self.model.compiled is not None
        floor, step = Floor(self.model.compiled), self.engine._step
        steps: list[float] = []
        floors: list[float] = []

        def both() -> None:
            start = time.perf_counter()
            step()
            middle = time.perf_counter()
            floor()
            steps.append(middle - start)
            floors.append(time.perf_counter() - middle)

        self.engine._step = both  # type: ignore[method-assign]
        self.run([self.request(PROMPTS[0], 300)])
        self.engine._step = step  # type: ignore[method-assign]
        # The first steps read the prompt.
        return statistics.median(floors[5:]) / statistics.median(steps[5:])

    def floor_seconds(self, rows: int = 1) -> float:
        """One pass over the matrices with the engine's own kernels: mean of several, as a step's is."""
        assert self.model.compiled is not None
        floor = Floor(self.model.compiled)
        start = time.perf_counter()
        for _ in range(FLOORS):
            floor(rows)
        return (time.perf_counter() - start) / FLOORS

    def torch_floor_seconds(self) -> float:
        """The same with torch's products."""
        assert self.model.weights is not None
        matrices = self.model.weights.matrices
        rows = {m.shape[1]: torch.ones(1, m.shape[1], dtype=m.dtype) for m in matrices}
        start = time.perf_counter()
        for _ in range(FLOORS):
            for matrix in matrices:
                F.linear(rows[matrix.shape[1]], matrix)
        return (time.perf_counter() - start) / FLOORS


def one_process(figures: Figures, path: Path, threads: int) -> None:
    """Streams and prefixes."""
    benches = {dtype: Bench(path, dtype, threads) for dtype in ("float32", "bfloat16")}
    torch.set_num_threads(threads)  # of this thread, for transformers
    same = [
        benches["float32"].run([benches["float32"].request(p, 64)])[2][0]
        == benches["float32"].transformers_ids(p, 64)
        for p in PROMPTS[:4]
    ]
    figures.gate("greedy float32 outputs identical to transformers, of 4 x 64 tokens", "== 4", sum(same))
    actions: dict[str, Callable[[], float | None]] = {}
    for dtype, bench in benches.items():
        actions |= {
            f"{dtype} engine": bench.stream_seconds,
            f"{dtype} transformers": bench.transformers_seconds,
            f"{dtype} step": partial(bench.step_seconds, 1),
            f"{dtype} floor": bench.floor_seconds,
            f"{dtype} torch floor": bench.torch_floor_seconds,
            f"{dtype} step of 8": partial(bench.step_seconds, 8),
            f"{dtype} floor of 8": partial(bench.floor_seconds, 8),
        }
    s = interleaved(actions, ROUNDS)
    engine = min(("float32", "bfloat16"), key=lambda d: s[f"{d} engine"])
    baseline = min(s[f"{d} transformers"] for d in benches)
    ratio = baseline / s[f"{engine} engine"]
    figures.gate("one stream, tokens/s over transformers generate, best dtype each", ">= 1.3", ratio)
    for dtype in benches:
        share = statistics.median(benches[dtype].floor_share() for _ in range(ROUNDS))
        figures.gate(f"{dtype} floor (the matrix products alone) over step", ">= 0.85", share)
        gain = 8 * s[f"{dtype} step"] / s[f"{dtype} step of 8"]
        figures.gate(f"{dtype} tokens/s of 8 streams over one stream", ">= 4", gain)
    for name, seconds in s.items():
        figures.figure(f"{name}, ms", seconds * 1e3)
    for dtype in benches:
        figures.figure(f"{dtype} engine, tokens/s", 1 / s[f"{dtype} engine"])
        figures.figure(f"{dtype} transformers, tokens/s", 1 / s[f"{dtype} transformers"])
    prefixes(figures, benches["bfloat16"])
    for bench in benches.values():
        bench.engine.close()


def prefixes(figures: Figures, bench: Bench) -> None:
    """Sixteen requests with a prefix of 1,000 tokens in common, and sixteen with nothing in common."""
    generator = torch.Generator().manual_seed(1)

    def some(count: int) -> list[int]:
        return torch.randint(1000, 40000, (count,), generator=generator).tolist()

    prefix, counters = some(1000), bench.engine.counters
    before = counters.prefill_tokens
    shared, *_ = bench.run([bench.request(prefix + some(16), 4) for _ in range(16)])
    middle = counters.prefill_tokens
    apart, *_ = bench.run([bench.request(some(1016), 4) for _ in range(16)])
    after = counters.prefill_tokens
    figures.gate(
        "prefill tokens without sharing over with, 16 requests", ">= 10", (after - middle) / (middle - before)
    )
    figures.figure("16 requests without sharing over with, time", apart / shared)
    figures.figure("prefill, tokens/s", (after - middle) / apart)


async def front(figures: Figures, path: Path, threads: int) -> None:
    """Start the server; measure until the first token, and health calls while four streams run."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from palimpsest.api.decoding.v1 import decoding_pb2 as pb
    from palimpsest.api.decoding.v1 import decoding_pb2_grpc
    from palimpsest.rpc.channel import open_aio_channel

    with tempfile.TemporaryDirectory() as folder:
        valkey = ValkeyServer(Path(folder) / "valkey").start()
        socket = f"unix:{folder}/server"
        settings = Settings(state_dir=Path(folder), redis_url=valkey.url, listen=socket, threads=threads)
        models = ModelCatalogue(redis.Redis.from_url(valkey.url), settings.redis_prefix)
        register("sample", str(path), models, settings, NullProgress())
        environment = {
            **os.environ,
            "PALIMPSEST_STATE_DIR": folder,
            "PALIMPSEST_REDIS_URL": valkey.url,
            "PALIMPSEST_LISTEN": socket,
            "PALIMPSEST_THREADS": str(threads),
            "PALIMPSEST_LOG_LEVEL": "WARNING",
        }
        begin = time.perf_counter()
        command = [sys.executable, "-m", "services", "decoding"]
        server = subprocess.Popen(command, cwd=ROOT, env=environment)  # noqa: ASYNC220
        try:
            async with open_aio_channel(socket) as channel:
                health: Any = health_pb2_grpc.HealthStub(channel)
                request = health_pb2.HealthCheckRequest()
                while True:
                    try:
                        answer = await health.Check(request, timeout=1)
                        if answer.status == health_pb2.HealthCheckResponse.SERVING:
                            break
                    except grpc.aio.AioRpcError:
                        assert server.poll() is None
                        await asyncio.sleep(0.05)
                serving = time.perf_counter() - begin
                stub = decoding_pb2_grpc.DecodingServiceStub(channel)

                async def stream(prompt: str, tokens: int) -> int:
                    seen = 0
                    async for event in stub.Generate(
                        pb.GenerateRequest(model="sample", prompt=prompt, max_tokens=tokens, ignore_eos=True)
                    ):
                        seen += len(event.delta.token_ids)
                    return seen

                await stream("The", 1)
                first = time.perf_counter() - begin
                figures.gate("server start, process to SERVING and first token, seconds", "<= 20", first)
                figures.figure("server start, process to SERVING, s", serving)
                waits: list[float] = []
                streams = [asyncio.ensure_future(stream(prompt, 250)) for prompt in PROMPTS[:4]]
                while not all(task.done() for task in streams):
                    start = time.perf_counter()
                    await health.Check(request, timeout=10)
                    waits.append((time.perf_counter() - start) * 1e3)
                    await asyncio.sleep(0.01)
                assert [task.result() for task in streams] == [250] * 4
                waits = waits[20:]  # the first calls are warm-up
                figures.gate("health call while 4 streams run, p99 ms", "<= 50", percentile(waits, 0.99))
                figures.figure("health call while 4 streams run, median ms", percentile(waits, 0.5))
                figures.figure("health calls measured", len(waits))
        finally:
            server.terminate()
            server.wait(30)
            valkey.stop()


def main() -> None:
    """Measure everything and write the figures."""
    threads = int(os.environ.get("PALIMPSEST_THREADS") or 0) or physical_cores()
    figures, path = Figures("decode"), sample_model()
    figures.figure("threads", threads)
    one_process(figures, path, threads)
    asyncio.run(front(figures, path, threads))
    figures.write()


if __name__ == "__main__":
    main()
