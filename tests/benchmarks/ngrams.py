"""N-gram stores: bytes a token, time to build, open and look up, beside dictionaries as the paper's code keeps them.

``python -m tests.benchmarks.ngrams`` takes about a minute on one core.
"""

import pickle
import sysconfig
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import platformdirs

from palimpsest.models import convert_gguf, sample_gguf
from palimpsest.ngrams import ORDERS, NgramStore, build_store
from services.datastore.tokens import ByteTokenizer
from tests.benchmarks.figures import Figures, interleaved

WEIGHTS = (0.01, 0.04, 0.15, 0.18, 0.12)
DRAFTS, CANDIDATES, STEPS, ROUNDS = 10, 30, 50, 9
LARGE = 5_000_000

Tables = list[dict[tuple[int, ...], Counter[int]]]


def dictionaries(documents: list[np.ndarray]) -> Tables:
    """What follows each context, a table for each order."""
    tables: Tables = [defaultdict(Counter) for _ in ORDERS]
    for document in documents:
        ids = document.tolist()
        for order, table in zip(ORDERS, tables, strict=True):
            for at in range(order - 1, len(ids)):
                table[tuple(ids[at - order + 1 : at])][ids[at]] += 1
    return tables


def by_dictionaries(tables: Tables, contexts: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The same numbers; totals are added up once for a context, not for each candidate as in the paper's code."""
    out = np.zeros((len(contexts), len(candidates)))
    for d, row in enumerate(contexts.tolist()):
        for order, table, weight in zip(ORDERS, tables, WEIGHTS, strict=True):
            follow = table.get(tuple(row[len(row) - order + 1 :]))
            if follow:
                total = sum(follow.values())
                for c, token in enumerate(candidates.tolist()):
                    out[d, c] += weight * follow.get(token, 0) / total
    return out


def steps(documents: list[np.ndarray], vocabulary: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Contexts and candidates: a third of these follow some draft, and the rest are anything."""
    rng, text = np.random.default_rng(0), np.concatenate(documents).astype(np.int32)
    found = []
    for _ in range(STEPS):
        at = rng.integers(5, len(text) - 1, DRAFTS)
        own = np.concatenate([text[at], rng.integers(0, vocabulary, CANDIDATES - DRAFTS)])
        found.append((np.stack([text[a - 5 : a] for a in at]), own.astype(np.int32)))
    return found


def library(tokenizer: ByteTokenizer) -> list[np.ndarray]:
    """The reference manual and Python's own library, up to some five million tokens."""
    found, count = [], 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" in path.parts or count > LARGE:
            continue
        ids = tokenizer.encode(path.read_text(errors="replace").encode()).ids
        found.append(ids)
        count += len(ids)
    return found


def measure(figures: Figures, name: str, documents: list[np.ndarray], vocabulary: int, folder: Path) -> None:
    """Build, open and ask one store."""
    tokens = sum(map(len, documents))
    start = time.perf_counter()
    build_store(documents, folder / name, tokenizer="sha256:bench", vocab_size=vocabulary)
    built = time.perf_counter() - start
    start = time.perf_counter()
    store = NgramStore.open(folder / name)
    opened = time.perf_counter() - start
    asked = steps(documents, vocabulary)
    tables = dictionaries(documents) if tokens < LARGE // 10 else None

    def ours() -> None:
        for contexts, candidates in asked:
            store.probabilities(contexts, candidates, WEIGHTS)

    def theirs() -> None:
        for contexts, candidates in asked:
            by_dictionaries(tables or [], contexts, candidates)

    took = interleaved({"store": ours, "dictionaries": theirs} if tables else {"store": ours}, ROUNDS)
    figures.gate(f"{name}: bytes a token", "<= 24", store.size_bytes / tokens)
    figures.figure(f"{name}: tokens", tokens)
    figures.figure(f"{name}: built in, s; opened and verified in, ms", f"{built:.2f}; {1e3 * opened:.1f}")
    figures.figure(f"{name}: one step's look-ups, us", 1e6 * took["store"] / STEPS)
    if tables:
        size = len(pickle.dumps([dict(table) for table in tables]))
        figures.gate(
            f"{name}: dictionaries / store, time of a step", ">= 3", took["dictionaries"] / took["store"]
        )
        figures.gate(f"{name}: pickled dictionaries / store, bytes", ">= 3", size / store.size_bytes)
        apart = max(
            float(np.abs(store.probabilities(*step, WEIGHTS) - by_dictionaries(tables, *step)).max())
            for step in asked
        )
        figures.gate(f"{name}: furthest from the dictionaries", "<= 0.000001", apart)


def main() -> None:
    """Measure and write."""
    figures = Figures("ngrams")
    cache = Path(platformdirs.user_cache_dir("palimpsest-tests", appauthor=False))
    tokenizer = ByteTokenizer(convert_gguf(sample_gguf(), cache))
    with tempfile.TemporaryDirectory() as scratch:
        manual = [tokenizer.encode(topics[key].encode()).ids for key in sorted(topics)]
        measure(figures, "manual", manual, tokenizer.size, Path(scratch))
        measure(figures, "library", [*manual, *library(tokenizer)], tokenizer.size, Path(scratch))
    figures.write()


if __name__ == "__main__":
    main()
