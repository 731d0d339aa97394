"""The cache codec: size against what it does to predictions, speed against prefill, loading in time.

``python -m tests.benchmarks.codec`` takes about twenty minutes on two cores, most of it calibration and prefill.
``PALIMPSEST_BENCH_PROFILE`` names a file to keep the calibration profile in between runs. zstandard and constriction
are compared with where they are installed. The parts: ``codec.quality``, ``codec.speed``, ``codec.policy`` (deadlines,
played), ``codec.late`` (bad links, played) and ``codec.loading`` (over an emulated link, timed).
"""

import torch

from tests.benchmarks.codec.late import late
from tests.benchmarks.codec.loading import loading
from tests.benchmarks.codec.models import (
    CONTINUATION,
    PREFIX,
    THREADS,
    fastest_prefill,
    halved,
    prefill,
    sample,
)
from tests.benchmarks.codec.policy import chunks_of, policies
from tests.benchmarks.codec.quality import quality
from tests.benchmarks.codec.speed import entropy, speed
from tests.benchmarks.documents import evaluation_documents
from tests.benchmarks.figures import Figures


def main() -> None:
    """Measure everything."""
    torch.set_num_threads(THREADS)
    figures = Figures("codec")
    it = sample(figures)
    weights = 2 * sum(part.numel() for part in it.model.parameters())
    figures.gate("profile bytes / bf16 weights", "<= 0.1", len(it.profile.to_bytes()) / weights)
    means = quality(it, figures)
    _, ids = evaluation_documents(it.tokenizer, PREFIX + CONTINUATION)[0]
    kv = halved(prefill(it.model, ids[:PREFIX]))
    entropy(kv, it.profile, figures)
    text = fastest_prefill(it.path, ids, figures)
    seconds = speed(text, kv, ids, it.profile, figures)
    chunks = chunks_of(kv, it.profile, means, seconds)
    policies(chunks, seconds["prefill"], 2 * kv.geometry.values_per_token * PREFIX, figures)
    late(figures)
    loading(it, text, ids, kv, chunks, means, seconds, figures)
    figures.write()


if __name__ == "__main__":
    main()
