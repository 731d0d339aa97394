"""Time and memory of drafts: against samples one after another and in a batch, beams, and what AUTO chooses."""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from palimpsest.decoding.drafts import DraftSettings, DraftStrategy
from palimpsest.decoding.drafts.costs import cheapest, probe_costs
from palimpsest.decoding.drafts.events import DraftsEnd
from palimpsest.engine import Engine
from palimpsest.engine.costs import StepCost
from palimpsest.engine.events import Event
from palimpsest.engine.requests import Request
from palimpsest.lm import LanguageModel, SequenceInput
from palimpsest.ngrams import NgramStore
from tests.benchmarks.figures import Figures
from tests.benchmarks.superposed.engine import Prefilled, Run
from tests.benchmarks.superposed.text import TOKENS

ROUNDS = 9
SUPERPOSED = DraftSettings(strategy=DraftStrategy.SUPERPOSED)
CROWD = 8


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def speed(model: LanguageModel, name: str, settings: DraftSettings, store: NgramStore, prompts: list[list[int]],
          figures: Figures) -> None:  # fmt: skip
    """k drafts by each strategy, interleaved over prompts that were read once for all of them."""
    with_ngrams = replace(settings, strategy=DraftStrategy.SUPERPOSED)
    actions: dict[str, Callable[[Prefilled], Run]] = {}
    for k in (3, 10):
        plans = {
            "superposed": replace(with_ngrams, k=k),
            "nucleus batched": replace(settings, k=k, strategy=DraftStrategy.NUCLEUS),
            "beam": replace(settings, k=k, strategy=DraftStrategy.BEAM),
            "verified": replace(with_ngrams, k=k, strategy=DraftStrategy.SUPERPOSED_VERIFIED),
        }
        for label, plan in plans.items():
            actions[f"{label} {k}"] = lambda p, plan=plan: p.drafts(plan, store)
        actions[f"nucleus one by one {k}"] = lambda p, k=k: p.samples(k)
    runs: dict[str, list[Run]] = {label: [] for label in actions}
    prefills = []
    for n in range(ROUNDS + 1):
        print(f"{name}: round {n} of {ROUNDS}", flush=True)
        prompt = Prefilled(model, prompts[n])
        for label, action in actions.items():
            run = action(prompt)
            if n:  # the first round is for warming up
                runs[label].append(run)
        prefills += [prompt] if n else []
        prompt.release()
    wall = {label: _median([r.seconds for r in some]) for label, some in runs.items()}
    cpu = {label: _median([r.cpu for r in some]) for label, some in runs.items()}
    prefill = _median([p.seconds for p in prefills])
    busy = sum(r.cpu for some in runs.values() for r in some) / sum(
        r.seconds for some in runs.values() for r in some
    )
    figures.figure(f"{name}: processor time of wall time", busy)
    figures.figure(f"{name}: ms of a 15-token prompt", prefill * 1e3)
    for label in actions:
        figures.figure(
            f"{name}: ms, {label}", f"wall {wall[label] * 1e3:.0f}, processor {cpu[label] * 1e3:.0f}"
        )

    def ratio(k: int, rival: str) -> float:
        return wall[f"{rival} {k}"] / wall[f"superposed {k}"]

    exact = name == "float32"
    gates = (
        (3, "nucleus one by one", ">= 2.44", exact),
        (10, "nucleus one by one", ">= 8", exact),
        (10, "nucleus batched", ">= 1.6", exact),
        (3, "nucleus batched", ">= 0.9", True),
        (3, "beam", ">= 0.9", True),
    )
    for k, rival, asked, gated in gates:
        label = f"{name}: {rival} x{k} / superposed k = {k}"
        if gated:
            figures.gate(label, asked, ratio(k, rival))
        else:
            figures.figure(label, ratio(k, rival))
        whole = (prefill + wall[f"{rival} {k}"]) / (prefill + wall[f"superposed {k}"])
        figures.figure(f"{label}, the prompt's reading counted once on both sides", whole)
        figures.figure(f"{label}, processor time", cpu[f"{rival} {k}"] / cpu[f"superposed {k}"])
    figures.figure(f"{name}: beam x10 / superposed k = 10", ratio(10, "beam"))
    verified = wall["verified 3"] / wall["nucleus batched 3"]
    label = f"{name}: superposed verified k = 3 / nucleus batched x3"
    whole = (prefill + wall["verified 3"]) / (prefill + wall["nucleus batched 3"])
    if exact:
        figures.gate(label, "<= 1.2", verified)
    else:
        figures.figure(label, verified)
    figures.figure(f"{label}, the prompt's reading counted once on both sides", whole)
    spent = [r.end for r in runs["superposed 10"]]
    shares = [e.lookup_seconds / r.seconds for e, r in zip(spent, runs["superposed 10"], strict=True)]
    label = f"{name}: share of n-gram look-ups in drafting, k = 10"
    if exact:
        figures.gate(label, "<= 0.03", _median(shares))
    else:
        figures.figure(label, _median(shares))


def crowd(model: LanguageModel, settings: DraftSettings, store: NgramStore, prompts: list[list[int]],
          figures: Figures) -> None:  # fmt: skip
    """Eight requests at once through an engine: drafts a second, and the memory each takes."""
    engine = Engine(model, max_running=CROWD * 10)
    assert model.pool is not None
    rates: dict[str, list[float]] = {}
    blocks: dict[str, int] = {}
    try:
        for k in (3, 10):
            plans = {
                "superposed": replace(settings, k=k, strategy=DraftStrategy.SUPERPOSED),
                "superposed verified": replace(settings, k=k, strategy=DraftStrategy.SUPERPOSED_VERIFIED),
                "nucleus batched": replace(settings, k=k, strategy=DraftStrategy.NUCLEUS),
            }
            for n in range(4):
                for label, plan in plans.items():
                    seconds, peak = _together(engine, plan, store, prompts[:CROWD])
                    if n:
                        rates.setdefault(f"{label} {k}", []).append(CROWD * k / seconds)
                    blocks[f"{label} {k}"] = peak
    finally:
        engine.close()
    for label, values in rates.items():
        size = blocks[label] * model.limits.block_bytes / CROWD
        figures.figure(
            f"{CROWD} at once: {label}",
            f"{_median(values):.1f} drafts/s, {size / 1024:.0f} KiB of cache a request at most",
        )
    for k, asked in ((3, "<= 0.45"), (10, None)):
        share = blocks[f"superposed {k}"] / blocks[f"nucleus batched {k}"]
        label = f"cache memory a request, superposed / nucleus batched, k = {k}"
        if asked:
            figures.gate(label, asked, share)
        else:
            figures.figure(label, share)


def _together(
    engine: Engine, plan: DraftSettings, store: NgramStore, prompts: list[list[int]]
) -> tuple[float, int]:
    """Seconds until all have their drafts, and the most blocks held meanwhile."""
    pool = engine.model.pool
    assert pool is not None
    left, most = threading.Semaphore(0), [0]

    def deliver(events: Sequence[Event]) -> None:
        most[0] = max(most[0], pool.used)
        if any(isinstance(e, DraftsEnd) for e in events):
            left.release()

    start = time.perf_counter()
    for ids in prompts:
        request: Request = Prefilled.request(_Prompt(ids), plan, store)  # type: ignore[arg-type]
        engine.submit(request, deliver)
    for _ in prompts:
        left.acquire()
    return time.perf_counter() - start, most[0]


class _Prompt:
    """Ids alone: the engine reads them itself."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids


def auto(model: LanguageModel, name: str, settings: DraftSettings, store: NgramStore, prompt: list[int],
         figures: Figures) -> None:  # fmt: skip
    """What AUTO chooses against the best of what it chooses from, over drafts, prompt length and load."""
    pieces = probe_costs(model, StepCost())
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            costs = end.value
            break
    worst, table = 0.0, []
    for context in (15, 1000):
        held = Prefilled(model, (prompt * (context // len(prompt) + 1))[:context])
        for load in (0, 8):
            others = [model.new_cache() for _ in range(load)]
            if others:
                model.forward([SequenceInput(cache, prompt, logits="none") for cache in others])
            print(f"{name}: AUTO with a prompt of {context} and {load} others", flush=True)
            for k in (2, 3, 5, 10):
                plan = replace(settings, k=k)
                chosen, expected = cheapest(costs, plan, context, TOKENS, load, samples=False)
                times: dict[DraftStrategy, list[float]] = {s: [] for s in expected}
                for n in range(6):
                    for strategy, some in times.items():
                        run = held.drafts(replace(plan, strategy=strategy), store, others)
                        some += [run.seconds] if n else []
                medians = {s: _median(some) for s, some in times.items()}
                share = medians[chosen] / min(medians.values())
                worst = max(worst, share)
                table.append(
                    f"{context}/{load}/{k}: {chosen.value}"
                    + "".join(f" {s.value} {1e3 * medians[s]:.0f}({1e3 * expected[s]:.0f})" for s in medians)
                )
            for cache in others:
                cache.release()
        held.release()
    figures.gate(f"{name}: AUTO's time / the best strategy's, worst of {len(table)}", "<= 1.1", worst)
    figures.figure(f"{name}: prompt/load/k: choice, ms (expected)", "; ".join(table))


def one_thread() -> None:
    """Two threads of torch collapse where the machine is shared."""
    torch.set_num_threads(1)
