"""Quoting while generating: passes and time saved, facts, the right document, exactness, losslessness.

``python -m tests.benchmarks.nest.decoding [matched|irrelevant|facts|lossless|rivals ...]``; all parts take some minutes
on one thread. PALIMPSEST_BENCH_KEYS names a folder where keys are kept between runs.
"""

import statistics
import sys
import time
from typing import Any

import torch

from palimpsest.candidates import Mode, NestSettings
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.engine import Request
from tests.benchmarks.biographies import SLOTS, Person, people
from tests.benchmarks.figures import Figures
from tests.benchmarks.nest.corpus import Corpus, manual
from tests.benchmarks.nest.engine import Bench, Run

PASSAGES = 8
TOKENS = 64
ROUNDS = 2


class Biographies:
    """Questions about people who are in the store."""

    def __init__(self, bench: Bench, figures: Figures) -> None:
        self.bench, self.people = bench, people()
        self.corpus = bench.corpus("corpora/biographies", {p.name: p.text for p in self.people})
        self.corpus.calibration, hurt = bench.calibrated(
            self.corpus, [p.name for p in self.people[100:220:15]], PASSAGES, "Tell me a bio of {}."
        )
        figures.figure("calibration of the biographies", str(self.corpus.calibration))
        figures.figure("the paper's literal values hurt", hurt)

    def request(
        self,
        person: Person,
        settings: NestSettings | None,
        tokens: int = TOKENS,
        corpus: Corpus | None = None,
    ) -> Request:
        ids = self.bench.chat(person.question, person.name)
        if settings is None:
            return Request(ids, max_tokens=tokens, ignore_eos=True)
        store = corpus or self.corpus
        engine = None if settings.mode is Mode.LOSSLESS else self.bench.engine
        block, _ = store.candidates(store.retrieve(person.question, PASSAGES), engine)
        return Request(ids, max_tokens=tokens, ignore_eos=True, strategy=NestRequest(block, settings))


def compare(bench: Bench, pairs: list[tuple[Request, Request]]) -> tuple[list[Run], float, float]:
    """Run plain and quoting requests in turn; the last quoting runs, the speed-up, and time outside the passes."""
    plain, quoting, outside, last = [], [], [], []
    for number in range(ROUNDS + 1):
        a = [bench.run(one) for one, _ in pairs]
        last = [bench.run(other) for _, other in pairs]
        if number:
            plain.append(sum(r.seconds for r in a))
            quoting.append(sum(r.seconds for r in last))
            outside.append(1 - sum(r.stats.forward_seconds for r in last) / quoting[-1])
    return last, statistics.median(plain) / statistics.median(quoting), statistics.median(outside)


def told(figures: Figures, name: str, runs: list[Run], corpora: list[Corpus]) -> None:
    """Counts of some runs."""
    tokens = sum(len(r.ids) for r in runs)
    figures.figure(f"{name}: span token ratio", sum(r.quoted for r in runs) / tokens)
    figures.figure(f"{name}: matched token ratio", sum(r.stats.match_tokens for r in runs) / tokens)
    figures.figure(f"{name}: positions a token", sum(r.stats.lm_positions for r in runs) / tokens)
    proposed = sum(r.stats.proposed_tokens for r in runs)
    figures.figure(
        f"{name}: proposed tokens taken", sum(r.stats.accepted_tokens for r in runs) / max(1, proposed)
    )
    figures.gate(
        f"{name}: spans that are not exact", "<= 0", sum(r.wrong(corpora) + r.stats.dropped for r in runs)
    )


def _seconds_of_retrieval(bios: Biographies, person: Person, forget: bool) -> float:
    """Seconds to a request's candidate block; ``forget`` its keys first."""
    found = bios.corpus.retrieve(person.question, PASSAGES)
    if forget:
        for number, _ in found:
            bios.corpus.keys.pop(number, None)
    began = time.perf_counter()
    bios.request(person, NestSettings())
    return time.perf_counter() - began


def matched(bench: Bench, figures: Figures, bios: Biographies) -> None:
    asked = bios.people[:6]
    first, again = (_seconds_of_retrieval(bios, asked[0], forget) for forget in (True, False))
    figures.gate("retrieval and keys of a second request over those of the first", "<= 0.1", again / first)
    requests = [bios.request(p, NestSettings()) for p in asked]
    runs, speed, outside = compare(
        bench, [(bios.request(p, None), r) for p, r in zip(asked, requests, strict=True)]
    )
    tokens = sum(len(r.ids) for r in runs)
    figures.gate("matched: forwards a token", "<= 0.35", sum(r.stats.lm_forwards for r in runs) / tokens)
    figures.gate("matched: tokens/s over greedy", ">= 1.8", speed)
    figures.gate("matched: share of decode time outside the passes", "<= 0.15", outside)
    told(figures, "matched", runs, [bios.corpus])


def irrelevant(bench: Bench, figures: Figures, bios: Biographies) -> None:
    corpus = bench.corpus("corpora/manual", manual())
    corpus.calibration, _ = bench.calibrated(corpus, list(corpus.documents)[4::13], PASSAGES)
    figures.figure("calibration of the manual", str(corpus.calibration))
    asked = bios.people[:4]
    pairs = [(bios.request(p, None), bios.request(p, NestSettings(), TOKENS, corpus)) for p in asked]
    runs, speed, outside = compare(bench, pairs)
    tokens = sum(len(r.ids) for r in runs)
    figures.gate("irrelevant: forwards a token", "<= 1.05", sum(r.stats.lm_forwards for r in runs) / tokens)
    figures.gate("irrelevant: tokens/s over greedy", ">= 0.85", speed)
    figures.gate("irrelevant: share of decode time outside the passes", "<= 0.15", outside)
    told(figures, "irrelevant", runs, [corpus])


def facts(bench: Bench, figures: Figures, bios: Biographies) -> None:
    asked = bios.people[8:20]
    quoting = [bench.run(bios.request(p, NestSettings(), 96)) for p in asked]
    plain = [bench.run(bios.request(p, None, 96)) for p in asked[:4]]
    for name, asked_gate, runs in (("quoting", ">= 0.85", quoting), ("the model alone", "<= 0.05", plain)):
        right = sum(p.facts[slot] in r.text for p, r in zip(asked, runs, strict=False) for slot in SLOTS)
        figures.gate(f"fact slots right, {name}", asked_gate, right / (len(SLOTS) * len(runs)))
    own = sum(r.from_document(p.name) for p, r in zip(asked, quoting, strict=True))
    figures.gate(
        "quoted tokens from the right document", ">= 0.95", own / max(1, sum(r.quoted for r in quoting))
    )
    told(figures, "facts", quoting, [bios.corpus])
    for name, settings in (
        ("no prior", NestSettings(beta=0.0)),
        ("paper", NestSettings(mu=1.0, alpha=0.3, tau=0.1, r=1024, beta=0.0)),
    ):
        runs = [bench.run(bios.request(p, settings, 96)) for p in asked[:6]]
        own = sum(r.from_document(p.name) for p, r in zip(asked, runs, strict=False))
        figures.figure(
            f"quoted tokens from the right document, {name}", own / max(1, sum(r.quoted for r in runs))
        )


def lossless(bench: Bench, figures: Figures, bios: Biographies) -> None:
    asked = bios.people[20:40]
    plain = [bench.run(bios.request(p, None, 32)) for p in asked]
    # The model's own words are in the store for every second question, so that there is something to find.
    said = {p.name: p.name + r.text + " " for p, r in list(zip(asked, plain, strict=True))[::2]}
    corpus = bench.corpus("corpora/said", said)
    same, quoted = 0, 0
    for n, (person, run) in enumerate(zip(asked, plain, strict=True)):
        store = corpus if n % 2 == 0 else bios.corpus
        result = bench.run(bios.request(person, NestSettings(mode=Mode.LOSSLESS), 32, store))
        same += result.ids == run.ids
        quoted += result.quoted
    figures.gate("lossless: answers identical to greedy, of 20", "== 20", same)
    figures.figure("lossless: quoted tokens of 640", quoted)


def rivals(bench: Bench, figures: Figures, bios: Biographies) -> None:
    module: Any = bench.model.module
    asked = bios.people[:4]
    torch.set_num_threads(1)
    requests = [bios.request(p, NestSettings()) for p in asked]
    seconds: dict[str, list[float]] = {"nest": [], "prompt lookup": [], "generate": []}
    for _ in range(2):
        seconds["nest"].append(sum(bench.run(r).seconds for r in requests))
        for name, more in (("prompt lookup", {"prompt_lookup_num_tokens": 10}), ("generate", {})):
            began = time.perf_counter()
            for request in requests:
                ids = torch.tensor([list(request.ids)])
                with torch.inference_mode():
                    module.generate(
                        ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, min_new_tokens=TOKENS,
                        do_sample=False, pad_token_id=2, **more,
                    )  # fmt: skip
            seconds[name].append(time.perf_counter() - began)
    best = {name: min(s) for name, s in seconds.items()}
    rival = min(best["prompt lookup"], best["generate"])
    figures.gate("matched: tokens/s over the better of transformers' two", ">= 1.3", rival / best["nest"])
    figures.figure("matched: tokens/s over prompt lookup", best["prompt lookup"] / best["nest"])


PARTS = {f.__name__: f for f in (matched, irrelevant, facts, lossless, rivals)}


def main() -> None:
    parts = sys.argv[1:] or list(PARTS)
    figures = Figures("nest_decoding" if len(parts) == len(PARTS) else f"nest_decoding_{'_'.join(parts)}")
    bench = Bench()
    figures.figure("dtype", str(bench.model.dtype))
    bios = Biographies(bench, figures)
    for part in parts:
        PARTS[part](bench, figures, bios)
    bench.close()
    figures.write()


if __name__ == "__main__":
    main()
