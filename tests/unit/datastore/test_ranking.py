"""BM25 and fusion against plain loops, suffix look-up against search by eye, vectors against all of them."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.datastore.index.analysis import terms_of, words_of
from services.datastore.index.liveness import Liveness
from services.datastore.index.passage_index import FaissIndex
from services.datastore.index.suffixes import longest_suffix, longest_suffix_flat, suffix_array
from services.datastore.search.bm25 import best, scores
from services.datastore.search.fusion import RANK, dense_weight, fall, fuse


class Plain:
    """A part of texts, as BM25 wants it."""

    def __init__(self, texts):
        self.counts = [terms_of(t) for t in texts]
        self.lengths = np.array([c.total() for c in self.counts], np.int32)
        self.entries = len(texts)
        self.liveness = Liveness(0, np.ones(len(texts), np.int32), self.lengths)

    def postings(self, term):
        rows = [n for n, c in enumerate(self.counts) if term in c]
        return np.array(rows, np.int64), np.array([self.counts[n][term] for n in rows], np.float32)


def plain_bm25(texts: list[str], query: str) -> list[float]:
    """The textbook's loop, over words."""
    words = [words_of(t) for t in texts]
    mean = sum(map(len, words)) / len(words)
    found = []
    for text in words:
        counts, score = Counter(text), 0.0
        for word in words_of(query):
            df = sum(word in other for other in words)
            if counts[word]:
                idf = math.log(1 + (len(words) - df + 0.5) / (df + 0.5))
                score += idf * counts[word] * 2.2 / (counts[word] + 1.2 * (0.25 + 0.75 * len(text) / mean))
        found.append(score)
    return found


WORDS = st.lists(
    st.sampled_from(["a", "bee", "sees", "the", "sea", "at", "dawn"]), min_size=1, max_size=9
).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=12), WORDS, st.integers(0, 12), st.data())
def test_bm25_over_parts_is_the_textbooks_over_all(texts, query, cut, data):
    parts = [Plain(texts[:cut]), Plain(texts[cut:])]
    dead = data.draw(st.sets(st.integers(0, len(texts) - 1), max_size=len(texts) - 1))
    for n in dead:
        part, row = (parts[0], n) if n < cut else (parts[1], n - cut)
        part.liveness.lose(row, int(part.lengths[row]))
    found = np.concatenate(scores(parts, terms_of(query)))
    live = [n for n in range(len(texts)) if n not in dead]
    assert found[live] == pytest.approx(plain_bm25([texts[n] for n in live], query), rel=1e-5)
    assert not found[sorted(dead)].any()
    ranked = best(parts, terms_of(query), 3)
    assert [round(s, 4) for _, _, s in ranked] == [
        round(float(s), 4) for s in sorted(found, reverse=True)[:3] if s > 0
    ]


SCORES = st.dictionaries(st.integers(0, 300), st.floats(0.01, 50), max_size=250)


def ranked(scores: dict[int, float]) -> dict[int, float]:
    return dict(sorted(scores.items(), key=lambda row: -row[1]))


@given(SCORES, SCORES)
def test_fusion_is_the_papers_over_scores_of_one_scale(dense, sparse):
    dense, sparse = ranked(dense), ranked(sparse)
    found = fuse(dense, sparse)
    assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)
    assert all(s > 0 for _, s in found)
    assert {k for k, _ in found} == dense.keys() | sparse.keys()
    if not dense or not sparse:
        assert [k for k, _ in found] == list(dense or sparse)
        return
    d, s = list(dense.values()), list(sparse.values())
    eta_dense = 1 - (d[100] if len(d) > 100 else d[-1]) / d[0]
    eta_sparse = 1 - (s[100] if len(s) > 100 else 0) / s[0]
    eta = 0.7 * (1 - eta_sparse) + 0.3 * eta_dense
    for key, score in found:
        least = s[-1] if len(s) > 100 else 0
        expected = eta * dense.get(key, d[-1]) / d[0] + (1 - eta) * sparse.get(key, least) / s[0]
        assert score == pytest.approx(max(expected, 1e-6))


def test_short_and_flat_lists():
    assert fall([]) == 0
    assert fall([3.0]) == 0
    assert fall([3.0], exhaustive=True) == 1
    assert fall([2.0] * (RANK + 1), exhaustive=True) == 0
    assert fall([-1.0, -2.0]) == 0
    assert dense_weight([], [1.0]) == 0
    assert dense_weight([1.0], []) == 1
    assert fuse({}, {}) == []
    # The one passage with the word comes before all that only sound like it.
    assert fuse({n: 0.9 - n / 1000 for n in range(200)}, {150: 9.0})[0][0] == 150
    assert fuse({1: -0.5, 2: -0.7}, {}) == [(1, 1e-6), (2, 1e-6)]


TOKENS = st.lists(st.integers(0, 3), max_size=40)


@settings(deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=5), TOKENS, st.integers(1, 4))
def test_the_longest_suffix_is_found_and_never_across_documents(documents, context, shortest):
    text = np.array([t for d in documents for t in [*(x + 1 for x in d), 0]], np.int32)
    array = suffix_array(text)
    assert sorted(array.tolist()) == list(range(len(text)))
    expected: tuple[int, set[int]] = (0, set())
    starts = np.cumsum([0, *(len(d) + 1 for d in documents)])
    for length in range(min(len(context), 32), shortest - 1, -1):
        ends = {
            int(starts[n]) + i + length
            for n, d in enumerate(documents)
            for i in range(len(d) - length + 1)
            if d[i : i + length] == context[-length:]
        }
        if ends:
            expected = (length, ends)
            break
    length, ends = longest_suffix(text, array, np.array(context, np.int32), shortest, 32)
    assert (length, set(ends.tolist())) == expected
    length, ends = longest_suffix_flat(text - 1, np.array(context, np.int32), shortest, 32)
    assert (length, set(ends.tolist())) == expected


def clustered(count: int, dim: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(200, dim))
    rows = centres[random.integers(0, 200, count)] + 0.6 * random.normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def test_the_inverted_file_finds_what_exact_search_finds_and_nothing_removed(tmp_path):
    vectors = clustered(20_000, 64)
    index = FaissIndex(vectors, exact_below=1000)
    index.save(tmp_path / "passages.faiss")
    again = FaissIndex(vectors, exact_below=1000)
    again.load(tmp_path / "passages.faiss")
    gone = np.random.default_rng(1).choice(len(vectors), 5000, replace=False)
    for part in np.array_split(gone, 5):
        again.remove(part)
    exact = vectors.astype(np.float32)
    recall = []
    for query in clustered(30, 64, seed=2).astype(np.float32):
        scores = exact @ query
        scores[gone] = -9
        wanted = np.argsort(-scores)[:100]
        hits = again.search(query, 100)
        assert not np.isin(hits.ids, gone).any()
        assert hits.scores == pytest.approx(scores[hits.ids], abs=1e-3)
        recall.append(np.isin(wanted, hits.ids).mean())
    assert np.mean(recall) >= 0.97
    assert again.count() == 15_000
