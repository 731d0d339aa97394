"""Perplexity under the model, the fixed mixture and the confident one: text that is in the store, and text that is not.

``python -m tests.benchmarks.nest.scoring [stored|held|rounding ...]``; PALIMPSEST_BENCH_KEYS names a folder where keys
are kept between runs.
"""

import sys
from typing import Literal

import numpy as np
import torch

from palimpsest.candidates import Candidates, NestSettings
from palimpsest.candidates.calibration import PAPER
from palimpsest.candidates.keys import normalised
from palimpsest.candidates.mixture import KeyIndex, Mixed, search
from palimpsest.decoding.quoting.request import NestRequest
from palimpsest.decoding.quoting.scoring import NestScores, submit_nest_score
from palimpsest.engine.tasks import TaskSteps
from palimpsest.lm import Output, SequenceInput
from palimpsest.lm.blocks import BLOCK
from tests.benchmarks.figures import Figures
from tests.benchmarks.nest.corpus import Corpus, clean_split, manual
from tests.benchmarks.nest.engine import PREFIX, Bench

WINDOW = 192
"""Scored tokens of a window, after those it is retrieved by."""

WINDOWS = 4
PASSAGES = 8


def windows(corpus: Corpus, titles: list[str]) -> list[list[int]]:
    """Stretches of documents that begin in the middle of a passage."""
    long = [t for t in titles if len(corpus.ids[t]) > PREFIX + WINDOW + 100]
    return [corpus.ids[t][77 : 77 + PREFIX + WINDOW] for t in long[:WINDOWS]]


def joined(scores: list[NestScores]) -> NestScores:
    names = ("ids", "lm", "knn_lm", "nest", "weight", "ratio")
    return NestScores(*(np.concatenate([getattr(s, n) for s in scores]) for n in names))


class Manual:
    """The reference manual, calibrated on topics that are not scored."""

    def __init__(self, bench: Bench, figures: Figures) -> None:
        self.bench, self.corpus = bench, bench.corpus("corpora/manual", manual())
        self.titles = list(self.corpus.documents)
        self.corpus.calibration, hurt = bench.calibrated(self.corpus, self.titles[4::13], PASSAGES)
        figures.figure("calibration of the manual", str(self.corpus.calibration))
        figures.figure("the paper's literal values hurt", hurt)

    def scores(
        self, texts: list[list[int]], settings: NestSettings, store: set[int] | None = None
    ) -> NestScores:
        """Score windows, each against passages retrieved by its first tokens."""
        found = []
        numbers = {id(p.passage): n for n, p in enumerate(self.corpus.pieces)}
        for ids in texts:
            query = self.bench.tokenizer.decode(ids[:PREFIX])
            hits = self.corpus.retrieve(query, PASSAGES, lambda p: store is None or numbers[id(p)] in store)
            block, _ = self.corpus.candidates(hits, self.bench.engine)
            found.append(
                submit_nest_score(self.bench.engine, ids, NestRequest(block, settings), PREFIX).result()
            )
        return joined(found)


def report(figures: Figures, name: str, scores: NestScores) -> None:
    for kind in ("lm", "knn_lm", "nest"):
        figures.figure(f"{name}: perplexity, {kind}", scores.perplexity(kind))


def stored(bench: Bench, figures: Figures, text: Manual) -> None:
    texts = windows(text.corpus, text.titles[1::4])
    scores = text.scores(texts, NestSettings())
    figures.gate(
        "in the store: perplexity over the model's",
        "<= 0.60",
        scores.perplexity("nest") / scores.perplexity("lm"),
    )
    figures.gate(
        "in the store: perplexity over the fixed mixture's",
        "<= 0.87",
        scores.perplexity("nest") / scores.perplexity("knn_lm"),
    )
    report(figures, "in the store", scores)
    literal = NestSettings(mu=PAPER.mu, alpha=PAPER.alpha, tau=PAPER.tau, r=PAPER.r, beta=0.0)
    report(figures, "in the store, the paper's literal values", text.scores(texts, literal))


def held(bench: Bench, figures: Figures, text: Manual) -> None:
    titles = [t for t in text.titles[3::5] if len(text.corpus.ids[t]) > PREFIX + WINDOW + 100][:WINDOWS]
    store = clean_split(text.corpus, titles)
    texts = windows(text.corpus, titles)
    scores = text.scores(texts, NestSettings(), store)
    figures.gate(
        "held out: perplexity over the model's",
        "<= 1.01",
        scores.perplexity("nest") / scores.perplexity("lm"),
    )
    worse = float((scores.lm - scores.nest > 0.5).mean())
    figures.gate("held out: share of tokens that lose more than half a nat", "<= 0.08", worse)
    report(figures, "held out", scores)
    figures.figure("held out: passages left in the store", len(store))
    literal = NestSettings(mu=PAPER.mu, alpha=PAPER.alpha, tau=PAPER.tau, r=PAPER.r, beta=0.0)
    report(figures, "held out, the paper's literal values", text.scores(texts, literal, store))


def rounding(bench: Bench, figures: Figures, text: Manual) -> None:
    """int8 keys against the states themselves: the same neighbours, the same perplexity."""
    ids = windows(text.corpus, text.titles[1::4])[0]
    hits = text.corpus.retrieve(bench.tokenizer.decode(ids[:PREFIX]), 40)
    hits = [(n, s) for n, s in hits if n in text.corpus.keys] + [(n, 0.1) for n in text.corpus.keys][:24]
    hits = list(dict(hits).items())[:24]
    block, _ = text.corpus.candidates(hits, bench.engine)
    longest = max(len(ids), *(len(block.left[n]) + len(block.ids(n)) for n in range(len(block.passages))))
    states = bench.engine.submit_task(_states(bench, block, ids), -(-longest // BLOCK), longest)
    exact, output = states.result()
    store, settings = KeyIndex(block), NestRequest(block, NestSettings()).filled
    assert output.retrieval_queries is not None
    assert settings.r is not None
    queries, live = output.retrieval_queries[PREFIX - 1 : -1], torch.ones(len(store), dtype=torch.bool)
    targets = torch.tensor(ids[PREFIX:])
    found, fine = {}, KeyIndex(block)
    fine.keys, fine.norms = exact[store.positions], exact[store.positions].square().sum(1)
    for r in (16, 256):
        near = [search(s, queries, live, r) for s in (store, fine)]
        a, b = (each.keys.tolist() for each in near if each is not None)
        found[r] = np.mean([len(set(x) & set(y)) / r for x, y in zip(a, b, strict=True)])
        figures.gate(f"int8 keys: recall at {r} of {len(store)}", ">= 0.90", float(found[r]))
    logits = output.logits[PREFIX - 1 : -1]
    losses = [
        -Mixed(s, search(s, queries, live, settings.r), logits, settings).of_tokens(targets).log().mean()
        for s in (store, fine)
    ]
    figures.gate(
        "int8 keys: perplexity over that of exact keys", "<= 1.02", float(torch.exp(losses[0] - losses[1]))
    )


def _states(bench: Bench, block: Candidates, ids: list[int]) -> TaskSteps[tuple[torch.Tensor, Output]]:
    """On the engine's thread: the states before all tokens of a block, float32, and what is said of a text."""
    rows = []
    for number in range(len(block.passages)):
        before, own = list(block.left[number]), block.ids(number).tolist()
        states = _read(bench, [*before, *own][:-1], "none").retrieval_queries
        assert states is not None
        padded = torch.cat([torch.zeros(1, states.shape[1]), normalised(states)])
        rows.append(padded[len(before) :])
        yield None
    return torch.cat(rows), _read(bench, ids, "all")


def _read(bench: Bench, ids: list[int], logits: Literal["none", "all"]) -> Output:
    cache = bench.model.new_cache()
    try:
        return bench.model.forward([SequenceInput(cache, ids, logits=logits, retrieval_queries="all")])[0]
    finally:
        cache.release()


PARTS = {f.__name__: f for f in (stored, held, rounding)}


def main() -> None:
    parts = sys.argv[1:] or list(PARTS)
    figures = Figures("nest_scoring" if len(parts) == len(PARTS) else f"nest_scoring_{'_'.join(parts)}")
    bench = Bench()
    text = Manual(bench, figures)
    for part in parts:
        PARTS[part](bench, figures, text)
    bench.close()
    figures.write()


if __name__ == "__main__":
    main()
