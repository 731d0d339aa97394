"""Texts that the datastore's tests keep, and how they look at what is kept."""

import numpy as np

from services.datastore.store.corpus import Corpus


def texts(corpus: Corpus) -> dict[str, bytes]:
    return {f.head.document: bytes(f.document.data) for f in corpus.documents()}


def long_text(seed: int, words: int = 60) -> bytes:
    random = np.random.default_rng(seed)
    return " ".join(f"w{n:x}" for n in random.integers(0, 1 << 40, words)).encode()
