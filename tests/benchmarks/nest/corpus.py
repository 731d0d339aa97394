"""A corpus in memory for benchmarks: passages, BM25 over their words, and keys kept once they have been computed."""

import hashlib
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np

from palimpsest.candidates import Calibration, Candidates, Passage
from palimpsest.candidates.calibration import grams
from palimpsest.candidates.keys import Keys, fill, submit_keys
from palimpsest.engine import Engine
from palimpsest.lm import TokenBytes

PASSAGE, LEFT = 128, 32
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Piece:
    """A passage with its tokens, their lengths in bytes, and those before it."""

    passage: Passage
    tokens: list[int]
    lengths: list[int]
    left: list[int]


class Corpus:
    """Documents by name, cut into passages.

    Parameters
    ----------
    name
        Of the corpus.
    documents
        Text by name.
    tokenizer
        The model's.
    size
        Elements of a key.
    """

    def __init__(self, name: str, documents: Mapping[str, str], tokenizer: Any, size: int) -> None:
        self.name, self.size, self.documents = name, size, dict(documents)
        self.tokenizer, self._write = tokenizer, TokenBytes(tokenizer)
        self.ids = {
            title: tokenizer(text, add_special_tokens=False).input_ids for title, text in documents.items()
        }
        self.pieces = [p for title in documents for p in self._cut(title)]
        self.keys = self._kept()
        self.calibration: Calibration | None = None
        self._index()

    def _cut(self, title: str) -> list[Piece]:
        ids, text = self.ids[title], self.documents[title].encode()
        lengths = [len(self._write(t)) for t in ids]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        assert offsets[-1] == len(text), title
        digest, pieces = hashlib.sha256(text).hexdigest(), []
        for number, start in enumerate(range(0, len(ids), PASSAGE)):
            stop = min(start + PASSAGE, len(ids))
            begin, end = int(offsets[start]), int(offsets[stop])
            chars = sum(b & 0xC0 != 0x80 for b in text[:begin])
            passage = Passage(
                self.name, title, 1, number, 1.0, start, title, f"{self.name}/{title}", text[begin:end], begin, chars,
                digest,
            )  # fmt: skip
            pieces.append(
                Piece(passage, ids[start:stop], lengths[start:stop], ids[max(0, start - LEFT) : start])
            )
        return pieces

    @property
    def file(self) -> Path | None:
        """Where an earlier run's keys are, if they are to be kept: they are most of a run's time."""
        folder = os.environ.get("PALIMPSEST_BENCH_KEYS")
        return Path(folder) / f"{self.name.replace('/', '-')}-{len(self.pieces)}.npz" if folder else None

    def _kept(self) -> dict[int, Keys]:
        if self.file is None or not self.file.exists():
            return {}
        with np.load(self.file) as data:
            numbers = {int(name.split("-")[1]) for name in data.files}
            return {n: Keys(*(data[f"{part}-{n}"] for part in ("keys", "scales", "norms"))) for n in numbers}

    def _keep(self) -> None:
        if self.file is not None:
            parts = {
                f"{p}-{n}": getattr(k, p) for n, k in self.keys.items() for p in ("keys", "scales", "norms")
            }
            np.savez(self.file, **parts)

    def _index(self) -> None:
        self._words = [
            Counter(_words(p.passage.title + " " + p.passage.text.decode(errors="ignore")))
            for p in self.pieces
        ]
        self._lengths = np.array([sum(w.values()) for w in self._words], dtype=float)
        self._postings: dict[str, list[tuple[int, int]]] = {}
        for number, words in enumerate(self._words):
            for word, count in words.items():
                self._postings.setdefault(word, []).append((number, count))

    def retrieve(
        self, query: str, count: int, allowed: Callable[[Passage], bool] = lambda _: True
    ) -> list[tuple[int, float]]:
        """Numbers and BM25 scores of the best passages."""
        scores = np.zeros(len(self.pieces))
        mean = self._lengths.mean()
        for word in set(_words(query)):
            found = self._postings.get(word, [])
            rare = math.log(1 + (len(self.pieces) - len(found) + 0.5) / (len(found) + 0.5))
            for number, times in found:
                norm = times + 0.9 * (1 - 0.4 + 0.4 * self._lengths[number] / mean)
                scores[number] += rare * times * 1.9 / norm
        order = [
            int(n)
            for n in np.argsort(-scores, kind="stable")
            if scores[n] > 0 and allowed(self.pieces[n].passage)
        ]
        return [(n, float(scores[n])) for n in order[:count]]

    def candidates(
        self, found: Sequence[tuple[int, float]], engine: Engine | None
    ) -> tuple[Candidates, float]:
        """The block of some passages, and the seconds that computing missing keys took; no keys without an engine."""
        pieces = [self.pieces[n] for n, _ in found]
        passages = [replace(p.passage, score=score) for p, (_, score) in zip(pieces, found, strict=True)]
        block = Candidates.without_keys(
            passages,
            [p.tokens for p in pieces],
            [p.lengths for p in pieces],
            [p.left for p in pieces],
            self.size,
        )
        if engine is None:
            return block, 0.0
        began = time.perf_counter()
        lacking = [n for n, _ in found if n not in self.keys]
        if lacking:
            work = [(self.pieces[n].tokens, self.pieces[n].left) for n in lacking]
            self.keys.update(zip(lacking, submit_keys(engine, work).result(), strict=True))
            self._keep()
        seconds = time.perf_counter() - began
        fill(block, range(len(found)), [self.keys[n] for n, _ in found])
        if self.calibration is not None:
            block.calibrations[self.name] = self.calibration
        return block, seconds


def _words(text: str) -> list[str]:
    return [w.lower() for w in _WORD.findall(text)]


def manual() -> dict[str, str]:
    """The Python reference manual: every topic of ``pydoc``."""
    return {name: text for name, text in sorted(topics.items()) if len(text) > 200}


def clean_split(corpus: Corpus, held: Sequence[str]) -> set[int]:
    """Passages left in a store for held-out documents: of other documents, sharing no six tokens with them."""
    known = grams([corpus.ids[title] for title in held])
    return {
        n
        for n, piece in enumerate(corpus.pieces)
        if piece.passage.document not in held and not (grams([[*piece.left[-5:], *piece.tokens]]) & known)
    }
