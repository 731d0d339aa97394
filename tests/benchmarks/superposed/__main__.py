"""Several drafts at once: superposed against samples and beams, in time, memory and perplexity.

``python -m tests.benchmarks.superposed`` takes about twenty minutes on two cores. What is timed runs in one process
with one thread, interleaved; prefixes and how they really go on are from documents that the n-gram store has not seen.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from palimpsest.decoding.drafts import DraftSettings, DraftStrategy
from palimpsest.engine import Engine
from palimpsest.lm import load
from services.decoding.drafts.tuning import trials
from tests.benchmarks.decode import sample_model
from tests.benchmarks.figures import Figures
from tests.benchmarks.superposed import quality, speed
from tests.benchmarks.superposed.text import build, corpus_ids, prefixes

PREFIXES, TUNING, EXACT = 240, 12, 12


def main() -> None:
    """Measure and write."""
    figures = Figures("superposed")
    speed.one_thread()
    path = sample_model()
    # Nothing is timed before the second part, so this one may use what there is.
    model = load(path, "cpu", "float32", threads=0, cache_bytes=1 << 30)
    corpus = corpus_ids(model.tokenizer)
    asked, real = prefixes(model.tokenizer, PREFIXES + TUNING)
    parts = set(sys.argv[1:]) or {"speed", "quality"}
    with tempfile.TemporaryDirectory() as folder:
        store = build(Path(folder) / "store", corpus, model.vocab_size)
        figures.figure("n-gram store: tokens, documents", f"{store.tokens}, {store.documents}")
        some = corpus[::5]  # a dictionary of all of it would take gigabytes
        quality.counted(build(Path(folder) / "some", some, model.vocab_size), some, figures)
        figures.gate("bytes of the n-gram store for each token of the corpus", "<= 24",
                     (Path(folder) / "store").stat().st_size / store.tokens)  # fmt: skip
        del corpus
        engine = Engine(model)
        print("tuning alpha and temperature", flush=True)
        found = list(trials(engine, store, asked[::21], 3, lambda: None, (0.0, 0.3, 0.54), (0.06, 0.1)))
        best = min(found, key=lambda trial: trial.perplexity)
        figures.figure(
            "tuned on prefixes of their own", f"alpha {best.alpha}, temperature {best.temperature}"
        )
        # Where n-grams are tuned away, their cost is measured with the default weight all the same.
        tuned = DraftSettings(
            alpha=best.alpha, temperature=best.temperature, strategy=DraftStrategy.SUPERPOSED
        )
        loaded = replace(tuned, alpha=tuned.alpha or 0.3)
        kept = [n for n in range(len(asked)) if n % 21]
        asked, real = [asked[n] for n in kept], [real[n] for n in kept]
        if "quality" in parts:
            quality.quality(engine, tuned, store, asked, real, figures)
            quality.exactness(model, engine, loaded, store, asked[::20][:EXACT], figures)
        engine.close()
        if "speed" in parts:
            for dtype in ("float32", "bfloat16"):
                model = load(path, "cpu", dtype, threads=1, cache_bytes=1 << 30)
                speed.speed(model, dtype, loaded, store, asked[5::20], figures)
                speed.auto(model, dtype, loaded, store, asked[0], figures)
                if dtype == "float32":
                    speed.crowd(model, loaded, store, asked[3::20], figures)
                else:
                    model.close()
    figures.write()


if __name__ == "__main__":
    main()
