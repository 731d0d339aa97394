"""Soak: thousands of requests and hundreds of jobs against the real stack; no error, and no memory that only grows.

``python -m tests.benchmarks.soak`` takes about five minutes. PALIMPSEST_SOAK_ROUNDS shortens or lengthens it (50 rounds
of 100 requests and 10 jobs).
"""

import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil

from palimpsest import Client
from palimpsest.embedded.stack import Stack
from palimpsest.errors import PalimpsestError
from palimpsest.settings import Settings
from tests.benchmarks.figures import Figures
from tests.tiny import write_tiny_model

ROUNDS = int(os.environ.get("PALIMPSEST_SOAK_ROUNDS", "50"))
REQUESTS, JOBS = 100, 10
CALLERS = 8
WINDOW = max(1, ROUNDS // 10)
"""Rounds in one window of memory figures: 50 jobs, after which a worker's child is replaced by a fresh one."""

SETTINGS = {"threads": 1, "drain_seconds": 1.0, "engine_cache_bytes": 1 << 20, "log_level": "WARNING"}
"""A cache of keys and values so small that kept prefixes fill it early: it is meant to fill, and not to grow."""


def memory(pid: int) -> dict[str, int]:
    """Bytes of a process and its children: those of its own, and those resident at all."""
    total = {"own": 0, "resident": 0}
    process = psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        try:
            info = each.memory_full_info()
        except psutil.Error:  # a child that was just replaced
            continue
        total["own"] += info.uss
        total["resident"] += info.rss
    return total


class Soak:
    """The work, and what went wrong in it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.errors: Counter[str] = Counter()
        self.tokens = 0

    def counted(self, work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except (PalimpsestError, AssertionError) as error:
            self.errors[f"{type(error).__name__}: {error}"[:200]] += 1

    def generate(self, number: int) -> None:
        """One stream: greedy or sampled, with and without a prefix that others have too."""
        prompt = "the quick brown fox " * (1 + number % 8) + (str(number) if number % 3 else "")
        tokens = 4 + number % 13
        seen = 0
        for event in self.client.decoding.generate(
            model="soak",
            prompt=prompt,
            max_tokens=tokens,
            ignore_eos=True,
            sampling={"temperature": 0.8 * (number % 2), "seed": number},
        ):
            seen += len(event.delta.token_ids)
        assert seen == tokens, f"{seen} tokens of {tokens}"
        self.tokens += seen

    def job(self, number: int) -> None:
        """One batch, its input uploaded and its output read back."""
        lines = [{"prompt": f"job {number} line {n}", "max_tokens": 8} for n in range(4)]
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        artifact = self.client.artifacts.upload(data, media_type="application/jsonl")
        result = self.client.decoding.generate_batch(model="soak", input=artifact.digest).result(timeout=120)
        assert result.succeeded == len(lines), result
        assert len(self.client.artifacts.read_bytes(result.output.digest).splitlines()) == len(lines)

    def round(self, number: int, pool: ThreadPoolExecutor) -> None:
        """So many requests and jobs at once; return when all have ended."""
        work: list[Future[None]] = [
            pool.submit(self.counted, self.job, number * JOBS + n) for n in range(JOBS)
        ]
        work += [pool.submit(self.counted, self.generate, number * REQUESTS + n) for n in range(REQUESTS)]
        for each in work:
            each.result()


def growth(samples: list[int]) -> float:
    """How much more the last window has than the first one after the half, as a share."""
    half = len(samples) // 2
    early, late = samples[half : half + WINDOW], samples[-WINDOW:]
    return statistics.median(late) / statistics.median(early) - 1


def main() -> None:
    """Run the rounds and write the figures."""
    figures = Figures("soak")
    names = ("server", "worker")
    samples: dict[str, dict[str, list[int]]] = {n: {"own": [], "resident": []} for n in names}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model").mkdir()
        model = write_tiny_model(Path(folder) / "model")
        settings = Settings(state_dir=Path(folder) / "state", redis_url="", listen="127.0.0.1:0")
        with (
            Stack(settings.model_copy(update=SETTINGS)) as stack,
            Client(stack.target) as client,
            # Half of the callers may wait for jobs while the others stream.
            ThreadPoolExecutor(2 * CALLERS) as pool,
        ):
            client.models.register_model(model_id="soak", source=str(model)).result(timeout=120)
            soak, start = Soak(client), time.monotonic()
            for number in range(ROUNDS):
                soak.round(number, pool)
                pids = {child.name: child.pid for child in stack.status()}
                for name in names:
                    for kind, value in memory(pids[name] or 0).items():
                        samples[name][kind].append(value)
                own = {name: samples[name]["own"][-1] >> 20 for name in names}
                print(f"round {number + 1} of {ROUNDS}: {own} MiB, {soak.errors.total()} errors", flush=True)
            seconds = time.monotonic() - start
            restarts = sum(child.restarts for child in stack.status())
    figures.gate("errors", "== 0", soak.errors.total())
    figures.gate("processes that had to be started again", "== 0", restarts)
    for name in names:
        share = growth(samples[name]["own"])
        figures.gate(f"{name}: growth of its own memory over the second half", "< 0.05", share)
    figures.figure("generate requests", ROUNDS * REQUESTS)
    figures.figure("jobs", ROUNDS * JOBS)
    figures.figure("tokens streamed", soak.tokens)
    figures.figure("seconds", round(seconds))
    for name in names:
        for kind in ("own", "resident"):
            kept = [value / (1 << 20) for value in samples[name][kind]]
            half = len(kept) // 2
            shown = [
                kept[0],
                statistics.median(kept[half : half + WINDOW]),
                statistics.median(kept[-WINDOW:]),
            ]
            figures.figure(f"{name} {kind} MiB: first round, half, end", [round(v, 1) for v in shown])
        figures.figure(f"{name}: growth of its resident memory", growth(samples[name]["resident"]))
    for error, times in soak.errors.most_common(5):
        figures.figure(error, times)
    figures.write()


if __name__ == "__main__":
    main()
