"""Slack: what a batch costs those who wait for a text, and what it gets beside them, against the real stack.

``python -m tests.benchmarks.slack`` takes some ten minutes. One or four callers read streams of the sample model; in
every other round a batch runs as well, in the decoding room's engine. For comparison the batch also runs in the
worker's own engine, with a second copy of the weights.
"""

import json
import os
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from palimpsest import Client
from palimpsest.embedded.stack import Stack
from palimpsest.settings import Settings
from tests.benchmarks.figures import Figures, percentile
from tests.waiting import until

STREAMS = (1, 4)
TOKENS, ROUNDS = 96, 6
LINES, LINE_TOKENS = 400, 160
ALONE_SECONDS = 15.0
SETTINGS = {"threads": 1, "drain_seconds": 1.0, "log_level": "WARNING", "engine_cache_bytes": 1 << 30}
MODEL = "smollm2-135m"


class Served:
    """A stack whose batches run in one place or the other."""

    def __init__(self, folder: Path, batch_engine: str, opened: ExitStack) -> None:
        settings = Settings(state_dir=folder, redis_url="", listen="127.0.0.1:0")
        settings = settings.model_copy(update={**SETTINGS, "batch_engine": batch_engine})
        self.client = opened.enter_context(Client(opened.enter_context(Stack(settings)).target))
        self.client.models.register_model(model_id=MODEL, source="sample").result(timeout=600)
        lines = ({"prompt": f"Chapter {n}. It was", "max_tokens": LINE_TOKENS} for n in range(LINES))
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        self._input = self.client.artifacts.upload(data, media_type="application/jsonl").digest
        self._batches = 0

    def stream(self, gaps: list[float]) -> None:
        """One caller: the seconds between its tokens; those of one message come at once."""
        asked = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": TOKENS, "ignore_eos": True}
        last = 0.0
        for event in self.client.decoding.generate(**asked):
            now = time.perf_counter()
            if event.HasField("delta"):
                gaps += [now - last] * bool(last)
                last = now

    def streams(self, count: int) -> list[float]:
        """Several callers at once."""
        gaps: list[float] = []
        threads = [threading.Thread(target=self.stream, args=(gaps,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return gaps

    def batch(self) -> Any:
        """Start a batch; returns its job once lines are generated."""
        self._batches += 1
        job = self.client.decoding.generate_batch(
            model=MODEL, input=self._input, sampling={"temperature": 1.0, "seed": self._batches}
        )
        until(lambda: job.progress().stage == "generating", timeout=300)
        time.sleep(3.0)  # the first prompts are read, and the worker's model has its pass compiled
        return job

    def end(self, job: Any) -> None:
        """Cancel a batch, and wait until nothing of it runs."""
        job.cancel()
        until(lambda: job.done(), timeout=60)

    def generated(self) -> int:
        """Tokens that the room's engine has generated."""
        return self.client.decoding.get_engine_info().models[0].generated_tokens


def measure(served: Served, count: int) -> dict[str, Any]:
    """Gaps without and with a batch in turn, and the tokens a second of the batch beside the streams."""
    plain: list[float] = []
    beside: list[float] = []
    rates: list[float] = []
    for _ in range(ROUNDS):
        plain += served.streams(count)
        job = served.batch()
        tokens, began = served.generated(), time.perf_counter()
        beside += served.streams(count)
        seconds = time.perf_counter() - began
        rates.append((served.generated() - tokens - count * TOKENS) / seconds)
        served.end(job)
    return {"plain": plain, "beside": beside, "rate": statistics.median(rates)}


def report(figures: Figures, name: str, count: int, found: dict[str, Any], gated: bool) -> None:
    """Add what was found."""
    what = f"{count} streams, batch in the {name}"
    p99 = [percentile(found[kind], 0.99) for kind in ("plain", "beside")]
    medians = [statistics.median(found[kind]) for kind in ("plain", "beside")]
    if gated:
        figures.gate(f"{what}: p99 between tokens, with / without", "<= 1.2", p99[1] / p99[0])
    else:
        figures.figure(f"{what}: p99 between tokens, with / without", p99[1] / p99[0])
    figures.figure(f"{what}: median, with / without", medians[1] / medians[0])
    figures.figure(f"{what}: p99 without, with in ms", [round(1000 * v, 1) for v in p99])
    figures.figure(f"{what}: median without, with in ms", [round(1000 * v, 1) for v in medians])
    if gated:
        figures.figure(f"{what}: tokens a second of the batch beside them", found["rate"])


def main() -> None:
    """Measure both places, one after the other."""
    figures = Figures("slack")
    figures.figure("load of the machine at the beginning", [round(v, 1) for v in os.getloadavg()])
    for name in ("decoding", "worker"):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
            served = Served(Path(folder), name, opened)
            served.streams(2)
            served.end(served.batch())
            for count in STREAMS:
                report(figures, name, count, measure(served, count), gated=name == "decoding")
            if name == "decoding":
                job = served.batch()
                tokens, began = served.generated(), time.perf_counter()
                time.sleep(ALONE_SECONDS)
                rate = (served.generated() - tokens) / (time.perf_counter() - began)
                figures.figure("tokens a second of the batch alone", rate)
                served.end(job)
    figures.figure("load of the machine at the end", [round(v, 1) for v in os.getloadavg()])
    figures.write()


if __name__ == "__main__":
    main()
