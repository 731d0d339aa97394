"""Loading a context over an emulated link, from the real server: against text, against other ways, eight at once.

Everything here is timed: the server is a process of its own, the link another (see ``links``), the receiver is
``client.codec.load`` with decoding and recomputing as users have them. The text baseline is the fastest prefill of the
same tokens. Nothing is told of the link beforehand: each load finds out.
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch

from palimpsest import Client
from palimpsest.client.loading import LoadedContext
from palimpsest.kv import LEVELS, KeyValues
from palimpsest.kv.plan import Chunk, Load
from palimpsest.kv.promises.estimates import MARGIN
from palimpsest.kv.simulation import Trace, play
from tests.benchmarks.codec.models import (
    MEASURED,
    PIECE,
    PREFIX,
    ROUNDS,
    THREADS,
    Prefill,
    Sample,
    halved,
    whole,
)
from tests.benchmarks.codec.policy import HIGH, LOW
from tests.benchmarks.codec.quality import Mean, divergence, predictions
from tests.benchmarks.codec.rivals import Rivals
from tests.benchmarks.codec.server import codec_server
from tests.benchmarks.figures import Figures, interleaved, percentile
from tests.benchmarks.links import Link

BUDGET = 0.015
"""Divergence allowed to every way of loading, in nats a token: what is measured, on the mean of ordinary text."""
TOLD = MARGIN * BUDGET
"""The same in what is told of stored chunks, which are bounds."""
AT_ONCE = 8
TRACED = range(30_000, 30_005)


class Loading:
    """One context, and the ways to get it."""

    def __init__(
        self,
        text: Prefill,
        ids: Sequence[int],
        sample: Sample,
        means: dict[str, Mean],
        seconds: dict[str, float],
    ) -> None:
        self.text, self.ids, self.sample, self.means, self.seconds = text, list(ids), sample, means, seconds
        self.curve = [{"tokens": PREFIX, "seconds": seconds["prefill"]}]
        self.allowed = [name for name in LEVELS if means[f"transform {name}"][1] <= BUDGET]

    def recompute(self, ids: np.ndarray, before: KeyValues | None, chunk: np.ndarray) -> KeyValues:
        """Prefill one chunk: orders come in order, so the cache goes on from the last one."""
        torch.set_num_threads(THREADS)
        if before is None:
            self.text.start()
        self.text.extend(chunk.tolist())
        return halved(self.text.export(len(ids)))

    def load(self, client: Client, name: str, *, text: bool = True, **settings: object) -> LoadedContext:
        """Load over the client's link."""
        torch.set_num_threads(THREADS)
        settings.setdefault("loss_budget", TOLD)
        if text:
            settings["recompute"] = self.curve
        return client.codec.load(
            name,
            settings=settings,
            recompute=self.recompute if text else None,
            threads=THREADS,
            profile=self.sample.profile,
        )


def loading(
    sample: Sample,
    text: Prefill,
    ids: Sequence[int],
    kv: KeyValues,
    chunks: tuple[Chunk, ...],
    means: dict[str, Mean],
    seconds: dict[str, float],
    figures: Figures,
) -> None:
    """Measure loads of the first ``PREFIX`` of the ids; what follows them tells what a load is worth.

    B* is the bytes of the bf16 cache over the time of prefill, measured in this run.
    """
    job = Loading(text, ids, sample, means, seconds)
    tie = 2 * kv.geometry.values_per_token * PREFIX / seconds["prefill"]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rivals = stack.enter_context(Rivals(kv, folder, PIECE))
        server, name = stack.enter_context(
            codec_server(sample, ids[:PREFIX], kv, means, seconds, folder / "state")
        )
        link = stack.enter_context(Link(server, tie))
        other = stack.enter_context(Link(rivals.target, tie, kind=link.kind))
        client = stack.enter_context(Client(link.target))
        figures.figure("link", link.how)
        figures.figure("B*, MB/s", tie / 1e6)

        def at(share: float) -> None:
            link.restart(share * tie)
            other.restart(share * tie)

        whole_text = partial(whole, text, ids[:PREFIX])
        adaptive = lambda: _drop(job.load(client, name))  # noqa: E731
        streamed = {
            way: partial(_drop_after, rivals.load, other.target, way, THREADS) for way in rivals.sizes
        }

        at(0.7)
        s = interleaved({"text": whole_text, "adaptive": adaptive, "u8": streamed["u8"]}, ROUNDS)
        _report(figures, "load at .7 B*", s)
        figures.gate("load at .7 B*: times faster than text", ">= 3.5", s["text"] / s["adaptive"])
        figures.gate("load at .7 B*: times faster than u8", ">= 2.7", s["u8"] / s["adaptive"])
        checked(job, client, name, kv, figures)
        pipelining(job, client, name, 0.7 * tie, figures)

        at(5)
        fixed: dict[str, Callable[[], None]] = {
            level: lambda level=level: _drop(job.load(client, name, text=False, levels=[level]))
            for level in job.allowed
        }
        s = interleaved({"adaptive": adaptive, **streamed, **fixed}, ROUNDS)
        _report(figures, "load at 5 B*", s)
        best = min((way for way in s if way != "adaptive"), key=s.__getitem__)
        figures.gate(
            f"load at 5 B* / best fixed way within the budget ({best})", "<= 1.1", s["adaptive"] / s[best]
        )

        at(0.05)
        s = interleaved({"text": whole_text, "adaptive": adaptive}, ROUNDS)
        _report(figures, "load at .05 B*", s)
        figures.gate("load at .05 B* / text", "<= 1.1", s["adaptive"] / s["text"])

        no_later(job, link, client, name, tie, figures)
        together(job, link, name, 0.7 * tie, figures)
        held_to(job, link, client, name, chunks, tie, figures)


def _drop(_: object) -> None:
    """Forget what an action returns: it was timed by the clock."""


def _drop_after(action: Callable[..., object], *arguments: object) -> None:
    action(*arguments)


def _report(figures: Figures, name: str, seconds: dict[str, float]) -> None:
    figures.figure(f"{name}, s", ", ".join(f"{way} {taken:.3f}" for way, taken in seconds.items()))


def checked(job: Loading, client: Client, name: str, kv: KeyValues, figures: Figures) -> None:
    """What a load at .7 B* brought: its ways, and that it is the context."""
    loaded = job.load(client, name)
    exact, found = (predictions(job.sample, each, job.ids[PREFIX:]) for each in (kv, loaded.kv))
    figures.figure("load at .7 B*, a chunk each", ", ".join(level for level, _ in loaded.chunks))
    figures.figure("load at .7 B*, KL at most, as told", loaded.loss)
    figures.gate("load at .7 B*: KL of what arrived", "<= 0.015", divergence(exact, found)[0])


def pipelining(job: Loading, client: Client, name: str, rate: float, figures: Figures) -> None:
    """A fixed level without text: the whole delay against the longer of its two parts alone."""
    size = sum(size for _, size in job.load(client, name, text=False, levels=[MEASURED]).chunks)
    load = lambda: _drop(job.load(client, name, text=False, levels=[MEASURED]))  # noqa: E731
    taken = interleaved({"load": load}, ROUNDS)["load"]
    transfer, decoding = size / rate, job.seconds[MEASURED]
    _report(figures, "pipelining at .7 B*", {"load": taken, "transfer": transfer, "decode": decoding})
    figures.gate(
        f"pipelining: delay / max(transfer, decode), {PREFIX // PIECE} chunks",
        "<= 1.25",
        taken / max(transfer, decoding),
    )


def no_later(job: Loading, link: Link, client: Client, name: str, tie: float, figures: Figures) -> None:
    """On a link that carries next to nothing, and on one that ends on the way: the text, and not much more."""
    text, chunk = job.seconds["prefill"], job.seconds["prefill"] * PIECE / PREFIX
    links = {
        "load at .001 B*": ([0.001 * tie], 1.0),
        "load on a link that dies": ([0.7 * tie, 100.0], 0.1 * text),
    }
    for way, (rates, hold) in links.items():

        def bad(rates: list[float] = rates, hold: float = hold) -> None:
            link.restart(trace=rates, hold=hold)
            job.load(client, name)

        s = interleaved({"text": partial(whole, job.text, job.ids[:PREFIX]), "adaptive": bad}, ROUNDS)
        _report(figures, way, s)
        figures.gate(f"{way}: (time - a chunk) / text", "<= 1.1", (s["adaptive"] - chunk) / s["text"])


def together(job: Loading, link: Link, name: str, rate: float, figures: Figures) -> None:
    """Eight loads at once on one link against one load on an eighth of it; all fetched, as all have one processor."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(link.target)) for _ in range(AT_ONCE)]
        every: list[float] = []

        def one(client: Client) -> None:
            start = time.perf_counter()
            job.load(client, name, text=False)
            every.append(time.perf_counter() - start)

        def all_of_them() -> float:
            link.restart(rate)
            threads = [threading.Thread(target=one, args=(client,)) for client in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return max(every[-AT_ONCE:])

        def alone() -> float:
            link.restart(rate / AT_ONCE)
            start = time.perf_counter()
            job.load(clients[0], name, text=False)
            return time.perf_counter() - start

        all_of_them()
        every.clear()
        single = []
        for _ in range(ROUNDS):
            all_of_them()
            single.append(alone())
        slow = percentile(every, 0.95)
        figures.figure("8 loads at once, s", f"median {statistics.median(every):.3f}, p95 {slow:.3f}")
        figures.figure("one load on an eighth of the link, s", statistics.median(single))
        figures.gate("8 loads at once, p95 / one on an eighth", "<= 1.3", slow / statistics.median(single))


def held_to(
    job: Loading,
    link: Link,
    client: Client,
    name: str,
    chunks: tuple[Chunk, ...],
    tie: float,
    figures: Figures,
) -> None:
    """The player of ``codec.policy`` against the link: the same traces, the same deadline."""
    text = job.seconds["prefill"]
    deadline, ratios = 0.5 * text, []
    mine = tuple(Chunk(c.tokens, c.recompute, c.options[1:]) for c in chunks)
    for seed in TRACED:
        trace = Trace.drawn(seed, LOW * tie, HIGH * tie, text / 10)
        link.restart(trace=trace.values, hold=trace.hold)
        start = time.perf_counter()
        job.load(client, name, deadline_seconds=deadline)
        ratios.append((time.perf_counter() - start) / play(Load(mine, deadline), trace).finish)
    figures.figure(
        f"loads of {len(ratios)} traces, link / played", ", ".join(f"{each:.2f}" for each in ratios)
    )
