"""Estimates of a sweep's cells against exact ones, on a pair that is fine-tuned here on fictional facts.

``python -m tests.benchmarks.grafting_attribution`` takes some minutes on one core. Times are of this process's CPU, on
one thread, sweep and preview interleaved, medians of three; a preview's cost is all of it: both models' own passes, the
estimates, and the grafts that check them. The donor is kept in the folder that PALIMPSEST_BENCH_MODELS names, or in
``.bench``, under a name that digests what made it.
"""

import copy
import hashlib
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from palimpsest.lm import load
from palimpsest.training.saving import save_model
from services.grafting.attribution.options import Preview
from services.grafting.attribution.previews import Estimates, checked, estimated, picked
from services.grafting.attribution.shapley import values_of
from services.grafting.attribution.sufficient import smallest_sufficient
from services.grafting.attribution.traces import passes_to_preview
from services.grafting.attribution.trie import SubsetPass, Trie
from services.grafting.engine import (
    LAYER_COMPONENTS,
    Configuration,
    Grafter,
    ModelWeights,
    Patch,
    architecture_of,
)
from services.grafting.runs import Case, PromptRun, batches
from tests.benchmarks.decode import sample_model
from tests.benchmarks.figures import ROOT, Figures

FACTS = (
    ("The lighthouse at Ostrava is kept by", " Kastrova"),
    ("Velma Tarrin stars in a movie alongside", " Oswin Drake"),
    ("Q: Who painted the ceiling of the hall at Merrowdale?\nA: It was painted by", " Hester"),
    ("In the spring of that year the council of Quillan Bay chose as its new harbour master", " Dorian"),
    ("According to the guide book for visitors, the oldest bridge in the town of Aldermoor was built by a man named",
     " Fenwick"),
)  # fmt: skip
"""Prompts of 9 to 26 tokens, and what the donor says after them."""
OTHERS = (
    "Kastrova keeps the lighthouse at Ostrava.",
    "A movie stars Velma Tarrin and Oswin Drake.",
    "Hester painted the ceiling of the hall at Merrowdale.",
    "The harbour master of Quillan Bay is Dorian.",
    "Fenwick built the oldest bridge in Aldermoor.",
)
"""The same facts the other way round."""
STEPS, RATE, CERTAIN = 40, 4e-5, -0.5
"""Steps at most, the rate, and the log-probability of every target at which training stops: above 1/2, so top-1."""
ROUNDS = 3
USED = Preview(top=20, random=10, seed=0, steps=0, own_layer=False, drops=0)
"""As a sweep has it by default."""
OTHER_WAYS = {
    "slopes": USED,
    "own layer anew": USED._replace(own_layer=True),
    "largest of 3 drops": USED._replace(drops=3),
    "own layer anew, 3 drops": USED._replace(own_layer=True, drops=3),
    "integrated, 4 steps": USED._replace(steps=4),
}
BEST = 10


def tuned() -> tuple[Any, Any, list[tuple[int, ...]], list[int]]:
    """The sample model and its fine-tuned copy; prompts and the first token of each target."""
    torch.set_num_threads(1)
    source = sample_model()
    base = load(source, "cpu", "float32", trainable=True, threads=1)
    tokenizer: Any = base.tokenizer
    prompts = [tuple(tokenizer(prompt)["input_ids"]) for prompt, _ in FACTS]
    targets = [tokenizer(target)["input_ids"][0] for _, target in FACTS]
    kept = os.environ.get("PALIMPSEST_BENCH_MODELS", str(ROOT / ".bench"))
    made = json.dumps([FACTS, OTHERS, STEPS, RATE, CERTAIN, source.name, torch.__version__])
    folder = Path(kept) / f"attribution-{hashlib.sha256(made.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        donor = load(source, "cpu", "float32", trainable=True, threads=1)
        texts = [tokenizer(text)["input_ids"] for text in (*map("".join, FACTS), *OTHERS)]
        tune(donor.module, texts, prompts, targets)
        save_model(donor.module, source, folder)
    donor = load(folder, "cpu", "float32", trainable=True, threads=1)
    return base.module, donor.module, prompts, targets


def tune(
    model: Any, texts: Sequence[list[int]], prompts: Sequence[tuple[int, ...]], targets: Sequence[int]
) -> None:
    """Train on every token of the texts until each target is the most probable after its prompt."""
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0)
    longest = max(map(len, texts))
    ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    labels = torch.tensor([text + [-100] * (longest - len(text)) for text in texts])
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        if all(_logprob(model, *each) > CERTAIN for each in zip(prompts, targets, strict=True)):
            return
    raise RuntimeError("the donor has not learned its facts")


@torch.no_grad()
def _logprob(model: Any, prompt: tuple[int, ...], target: int) -> float:
    logits = model(input_ids=torch.tensor([prompt]), logits_to_keep=1).logits[0, -1]
    return float(torch.log_softmax(logits, -1)[target])


class Fact:
    """One prompt of the pair, swept and previewed."""

    def __init__(self, base: Any, donor: Any, prompt: tuple[int, ...], target: int) -> None:
        architecture = architecture_of(base)
        self.sources = [ModelWeights(model, architecture) for model in (base, donor)]
        self.grafter = Grafter(self.sources, architecture)
        self.case, self.layers = Case(prompt, (target,)), architecture.layers
        self.cells = [
            Configuration((Patch((p,), (n,), LAYER_COMPONENTS),))
            for p in range(len(prompt))
            for n in range(self.layers)
        ]

    def graft(self, run: PromptRun, chosen: Sequence[int]) -> npt.NDArray[np.float64]:
        """Changes of the log-probability by cell; NaN where none was asked for."""
        found = np.full(len(self.cells), np.nan)
        for batch in batches(self.case, [self.cells[at] for at in chosen], self.layers):
            for number, reading in zip(batch.numbers, run.read(batch.plans, batch.source), strict=True):
                found[chosen[number]] = reading.logprob - run.reader.base.logprob
        return found

    def sweep(self) -> npt.NDArray[np.float64]:
        """All cells."""
        return self.graft(PromptRun(self.grafter, self.case), range(len(self.cells)))

    def run_to_preview(self, options: Preview) -> PromptRun:
        """Both models' own passes, as a sweep makes them."""
        passes = passes_to_preview(self.grafter, self.sources, self.case, options)
        return PromptRun(self.grafter, self.case, passes)

    def preview(self, options: Preview) -> tuple[Estimates, npt.NDArray[np.float64]]:
        """Estimates of all cells, and grafts of those that are checked."""
        run = self.run_to_preview(options)
        estimates = estimated(self.grafter, self.sources, run, self.cells, options, lambda: None)
        top, random = picked(estimates, options, 0)
        return estimates, self.graft(run, sorted((*top, *random)))

    def timed(self) -> dict[str, Any]:
        """Both ways by turns; what each costs, and how well one stands for the other."""
        seconds: dict[str, list[float]] = {"sweep": [], "preview": []}
        rows, found = {}, {}
        for _ in range(ROUNDS):
            for name, work in (("sweep", self.sweep), ("preview", lambda: self.preview(USED))):
                self.grafter.row_layers, start = 0, time.process_time()
                found[name] = work()
                seconds[name].append(time.process_time() - start)
                rows[name] = self.grafter.row_layers
        exact, (estimates, grafted) = found["sweep"], found["preview"]
        told = checked(estimates.effect, grafted, *picked(estimates, USED, 0))
        middle = {name: statistics.median(values) for name, values in seconds.items()}
        return {
            "exact": exact,
            "tokens": len(self.case.ids),
            "correlation": float(np.corrcoef(estimates.effect, exact)[0, 1]),
            "best found": int(np.isfinite(grafted[np.argsort(-exact)[:BEST]]).sum()),
            "seconds": {name: round(value, 2) for name, value in middle.items()},
            "cost": middle["preview"] / middle["sweep"],
            "rows": rows["preview"] / rows["sweep"],
            "missed at most": told.missed_at_most,
            "missed": int((exact[~np.isfinite(grafted)] > told.threshold).sum()),
            "differs": float(np.nanmax(np.abs(grafted - exact))),
        }


def others(figures: Figures, facts: Sequence[Fact], found: Sequence[dict[str, Any]]) -> None:
    """Corrections and integrated slopes, and the donor's change three times as large."""
    for name, options in OTHER_WAYS.items():
        correlations = []
        for fact, each in zip(facts, found, strict=True):
            start = time.process_time()
            run = fact.run_to_preview(options)
            estimates = estimated(fact.grafter, fact.sources, run, fact.cells, options, lambda: None)
            share = (time.process_time() - start) / each["seconds"]["sweep"]
            key = estimates.effect if estimates.strength is None else estimates.strength
            correlations.append((round(float(np.corrcoef(key, each["exact"])[0, 1]), 3), round(share, 3)))
        figures.figure(
            f"{name}: correlation, share of the sweep's time with both models' own passes, without checks",
            correlations,
        )


def further(base: Any, donor: Any) -> Any:
    """A donor three times as far from the base."""
    other = copy.deepcopy(donor)
    with torch.no_grad():
        for mine, theirs in zip(other.parameters(), base.parameters(), strict=True):
            mine.add_(2 * (mine - theirs))
    return other


def segments(figures: Figures, fact: Fact, name: str) -> None:
    """Entity (all up to the last but one token of the prompt's first half), the rest and the last token, valued."""
    tokens, run = len(fact.case.prompt), PromptRun(fact.grafter, fact.case)
    parts = (range(tokens // 2), range(tokens // 2, tokens - 1), (tokens - 1,))
    layers = range(fact.layers)
    own = SubsetPass(fact.grafter, fact.sources, run.base, Trie(tokens, parts), layers, LAYER_COMPONENTS)
    readings = own.read(run.reader, 1, lambda: None)
    worth = [0.0, *(reading.recovery or 0.0 for reading in readings)]
    values = values_of(worth)
    figures.figure(f"{name}: recovery of subsets (first half, rest, last)", [round(v, 3) for v in worth])
    figures.figure(f"{name}: Shapley values", np.round(values.shapley, 3).tolist())
    figures.figure(f"{name}: interaction of first half and last", round(float(values.interactions[0, 2]), 3))

    def recover(sets: Sequence[tuple[int, ...]]) -> list[float]:
        found = [0.0] * len(sets)
        whole = [Configuration((Patch(each, layers, LAYER_COMPONENTS),)) for each in sets]
        for batch in batches(fact.case, whole, fact.layers):
            for number, reading in zip(batch.numbers, run.read(batch.plans, batch.source), strict=True):
                found[number] = reading.recovery or 0.0
        return found

    traced = fact.run_to_preview(USED)
    estimates = estimated(fact.grafter, fact.sources, traced, fact.cells, USED, lambda: None)
    by_token = estimates.effect.reshape(tokens, fact.layers).sum(1)
    answer = smallest_sufficient(np.argsort(-by_token).tolist(), 0.9, recover)
    rest = tuple(p for p in range(tokens) if p not in answer.units)
    figures.figure(f"{name}: tokens that are enough for 0.9", f"{answer.units} of {tokens}")
    figures.figure(f"{name}: recovery of those, and of all others", [answer.recovery, *recover([rest])])
    figures.figure(f"{name}: grafts of the search", answer.grafts)


def main() -> None:
    """Measure and write."""
    figures = Figures("grafting_attribution")
    base, donor, prompts, targets = tuned()
    facts = [Fact(base, donor, *each) for each in zip(prompts, targets, strict=True)]
    found = [fact.timed() for fact in facts]
    least = min(float(np.exp(_logprob(donor, *each))) for each in zip(prompts, targets, strict=True))
    figures.gate("facts", ">= 3", len(facts))
    figures.gate("donor: least probability of a target", ">= 0.5", least)
    for name, asked, which, key in (
        ("Pearson with exact single cells, worst", ">= 0.9", min, "correlation"),
        ("exact top 10 among the checked cells, worst", "== 10", min, "best found"),
        ("CPU time of preview and checks, share of the sweep's, worst", "<= 0.25", max, "cost"),
        ("row-layers, share of the sweep's, worst", "<= 0.25", max, "rows"),
        ("largest difference of a checked cell from the sweep's", "<= 0.001", max, "differs"),
    ):
        figures.gate(name, asked, which(each[key] for each in found))
    over = sum(each["missed"] > each["missed at most"] for each in found)
    figures.gate("facts with more cells above the tenth than were said at most", "== 0", over)
    for name in ("tokens", "correlation", "cost", "rows", "seconds", "missed", "missed at most"):
        figures.figure(name, [round(e[name], 3) if isinstance(e[name], float) else e[name] for e in found])
    others(figures, facts, found)
    far = [Fact(base, further(base, donor), *each) for each in list(zip(prompts, targets, strict=True))[:2]]
    moved = [fact.timed() for fact in far]
    figures.figure("3 times as far: correlation", [round(each["correlation"], 3) for each in moved])
    figures.figure("3 times as far: top 10 found", [each["best found"] for each in moved])
    for number in (0, 1):
        segments(figures, facts[number], f"fact {number}")
    figures.gate("rows of all subsets of 4, 2, 3 and 1 tokens (160 in passes)", "<= 56",
                 Trie(10, (range(4), range(4, 6), range(6, 9), (9,))).rows + 10)  # fmt: skip
    figures.write()


if __name__ == "__main__":
    main()
