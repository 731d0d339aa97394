"""Quoting with exact sources: speed, perplexity, facts, exactness, the datastore, and what each part is worth.

``python -m tests.benchmarks.nest`` takes about half an hour on two cores. ``nest.decoding``, ``nest.scoring`` and
``nest.store`` run alone too. PALIMPSEST_BENCH_KEYS names a folder where token keys are kept between runs.
"""

from dataclasses import replace

from palimpsest.candidates import Mode, NestSettings
from tests.benchmarks.biographies import SLOTS
from tests.benchmarks.figures import Figures
from tests.benchmarks.nest import decoding as nest_decoding
from tests.benchmarks.nest import scoring as nest_scoring
from tests.benchmarks.nest import store as nest_store
from tests.benchmarks.nest.decoding import Biographies
from tests.benchmarks.nest.engine import Bench
from tests.benchmarks.nest.scoring import Manual, windows

PEOPLE, TOKENS, WINDOWS = 6, 96, 4

_PAPER = NestSettings(mu=1.0, alpha=0.3, tau=0.1, r=1024, beta=0.0)
ABLATION = {
    "the model alone": NestSettings(mode=Mode.LM),
    "+ neighbours (kNN-LM)": replace(_PAPER, mode=Mode.KNN_LM),
    "+ confidence": replace(_PAPER, delta=0.0),
    "+ spans": replace(_PAPER, gamma=1.0),
    "+ relaxed acceptance": _PAPER,
    "+ calibration": NestSettings(beta=0.0),
    "+ passage prior": NestSettings(),
}
"""Each line adds to the one before; up to relaxed acceptance with the paper's own parameters."""


def ablation(bench: Bench, figures: Figures, bios: Biographies, text: Manual) -> None:
    """Perplexity of stored text, facts right, quotes from the right document, passes a token."""
    # Some way down the list: calibration has not seen them.
    asked = bios.people[40 : 40 + PEOPLE]
    stretches = windows(text.corpus, text.titles[1::13])[:WINDOWS]
    for name, settings in ABLATION.items():
        column = {Mode.LM: "lm", Mode.KNN_LM: "knn_lm"}.get(settings.mode, "nest")
        perplexity = text.scores(stretches, settings).perplexity(column)
        runs = [bench.run(bios.request(p, settings, TOKENS)) for p in asked]
        tokens, quoted = sum(len(r.ids) for r in runs), sum(r.quoted for r in runs)
        right = sum(p.facts[slot] in r.text for p, r in zip(asked, runs, strict=True) for slot in SLOTS)
        own = sum(r.from_document(p.name) for p, r in zip(asked, runs, strict=True))
        passes = sum(r.stats.lm_forwards for r in runs) / tokens if column != "lm" else 1.0
        figures.figure(
            f"ablation: {name}",
            f"perplexity {perplexity:.2f}, facts {right / (len(SLOTS) * PEOPLE):.2f}, right document "
            f"{own / quoted if quoted else 0.0:.2f}, quoted {quoted / tokens:.2f}, passes a token {passes:.2f}",
        )


def main() -> None:
    """Measure and write."""
    figures, bench = Figures("nest"), Bench()
    figures.figure("dtype", str(bench.model.dtype))
    bios = Biographies(bench, figures)
    for part in nest_decoding.PARTS.values():
        part(bench, figures, bios)
    text = Manual(bench, figures)
    for part in nest_scoring.PARTS.values():
        part(bench, figures, text)
    ablation(bench, figures, bios, text)
    bench.close()
    nest_store.measure(figures)
    figures.write()


if __name__ == "__main__":
    main()
