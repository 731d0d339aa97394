"""Counts, shares and coverage: known answers, and whatever a brute-force count says."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.ngrams import LONGEST, ORDERS, NgramStore, build_store
from palimpsest.progress import NullProgress

WEIGHTS = [0.01, 0.04, 0.15, 0.18, 0.12]


def built(folder: Path, documents, vocab_size=10, **fields) -> NgramStore:
    build_store(documents, folder / "s", tokenizer="sha256:t", vocab_size=vocab_size, **fields)
    return NgramStore.open(folder / "s")


def brute_force(documents) -> dict[tuple[int, ...], Counter]:
    """What follows each context of 0 to 5 tokens."""
    found: dict[tuple[int, ...], Counter] = defaultdict(Counter)
    for document in documents:
        for at, token in enumerate(document):
            for size in range(min(at, LONGEST - 1) + 1):
                found[tuple(document[at - size : at])][token] += 1
    return found


def test_known_counts(tmp_path):
    store = built(tmp_path, [[1, 2, 3, 1, 2, 4], [1, 2], [], [9]])
    assert (store.tokens, store.documents, store.vocab_size, store.tokenizer) == (9, 3, 10, "sha256:t")
    counts, total = store.counts([1], np.array([2, 3, 1]))
    assert (counts.tolist(), total) == ([3, 0, 0], 3)
    # Nothing follows the end of a document, though another document comes after it.
    counts, total = store.counts([1, 2], np.array([3, 4, 9, 1]))
    assert (counts.tolist(), total) == ([1, 1, 0, 0], 2)
    assert store.counts([4], np.array([1]))[1] == store.counts([9], np.array([1]))[1] == 0
    counts, total = store.counts([], np.array([1, 2, 9, 5]))
    assert (counts.tolist(), total) == ([3, 3, 1, 0], 9)
    assert store.counts([1, 2, 3, 1, 2], np.array([4]))[0].tolist() == [1]
    assert store.continuations([2], 10) == [(3, 1), (4, 1)]
    assert store.continuations([1, 2, 3], 10) == [(1, 1)]
    assert store.continuations([], 2) == [(1, 3), (2, 3)]
    assert store.continuations([7], 2) == store.continuations([4], 2) == []


def test_known_shares(tmp_path):
    store = built(tmp_path, [[1, 2, 3, 1, 2, 4], [1, 2]])
    contexts = np.array([[-1, -1, -1, -1, 2], [1, 2, 3, 1, 2], [-1, 7, 7, 1, 2], [-1] * 5])
    found = store.probabilities(contexts, np.array([3, 4, 2]), WEIGHTS)
    two, three = WEIGHTS[0] / 2, WEIGHTS[1] / 2
    assert found[0] == pytest.approx([two, two, 0])
    assert found[1] == pytest.approx([two + three, two + three + sum(WEIGHTS[2:]), 0])
    assert found[2] == pytest.approx([two + three, two + three, 0])
    assert (found[3] == 0).all()


def test_what_is_no_token_counts_as_nothing(tmp_path):
    store = built(tmp_path, [[1, 2]])
    odd = np.array([-1, -7, 10, 65535, 65536, 2**31 - 1, 2])
    assert store.counts([1], odd)[0].tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert store.counts([], odd)[0].tolist() == [0, 0, 0, 0, 0, 0, 1]
    for token in odd[:-1]:
        assert store.counts([token], odd)[1] == store.counts([1, token], odd)[1] == 0
        context = np.array([[-1, -1, -1, 1, token]])
        assert (store.probabilities(context, odd, WEIGHTS) == 0).all()
    # An end of a document is no token either.
    assert store.counts([2], odd)[1] == 0


def test_coverage(tmp_path):
    store = built(tmp_path, [[1, 2, 3, 4]])
    assert store.coverage([1, 2, 3, 4]) == 1
    assert store.coverage([1, 2, 9, 1, 2]) == pytest.approx(1 / 3)
    assert store.coverage([3, 4, 1]) == 0  # seen, with nothing after it
    assert store.coverage([1, 2]) == store.coverage([]) == 0
    assert store.coverage([1, 9, 9], order=2) == pytest.approx(1 / 2)
    assert store.coverage([9], order=1) == 1
    for order in (0, 7):
        with pytest.raises(ValueError, match="orders"):
            store.coverage([1], order)


def test_shapes_that_do_not_fit_are_refused(tmp_path):
    store = built(tmp_path, [[1, 2]])
    for contexts, weights in (([[1, 2]], WEIGHTS), ([1, 2, 3, 4, 5], WEIGHTS), ([[1] * 5], [1.0])):
        with pytest.raises(ValueError, match="contexts"):
            store.probabilities(np.array(contexts), np.array([1]), weights)
    for call in (store.continuations, store.counts):
        with pytest.raises(ValueError, match="at most 5"):
            call([1] * 6, 1 if call == store.continuations else np.array([1]))


documents = st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=8)


@pytest.mark.parametrize("shift", [0, 65_530])  # ids below 65,535, and on both sides of it
@settings(max_examples=60, deadline=None)
@given(texts=documents.filter(any), bucket=st.integers(1, 40), data=st.data())
def test_all_orders_are_what_a_count_says(tmp_path_factory, shift, texts, bucket, data):
    texts = [[token + shift for token in text] for text in texts]
    store = built(tmp_path_factory.mktemp("s"), texts, 8 + shift, bucket=bucket)
    assert store._columns.dtype == (np.uint32 if shift else np.uint16)
    expected = brute_force(texts)
    candidates = np.arange(shift, shift + 8)
    one = st.integers(shift, shift + 4)
    drawn = data.draw(st.lists(st.lists(one, max_size=5), max_size=8))
    for context in [*expected, *map(tuple, drawn)]:
        follow = expected.get(context, Counter())
        counts, total = store.counts(context, candidates)
        assert counts.tolist() == [follow[int(c)] for c in candidates]
        assert total == follow.total()
        assert store.continuations(context, 3) == sorted(follow.items(), key=lambda f: (-f[1], f[0]))[:3]
    padded = np.full((len(drawn), 5), -1)
    for row, context in zip(padded, drawn, strict=True):
        row[5 - len(context) :] = context
    found = store.probabilities(padded, candidates, WEIGHTS)
    for shares, context in zip(found, drawn, strict=True):
        own = np.zeros(len(candidates))
        for order, weight in zip(ORDERS, WEIGHTS, strict=True):
            follow = expected.get(tuple(context[len(context) - order + 1 :]), Counter())
            if len(context) >= order - 1 and follow:
                own += [weight * follow[int(c)] / follow.total() for c in candidates]
        assert shares == pytest.approx(own)
    text = data.draw(st.lists(one, max_size=12))
    for order in range(1, LONGEST + 1):
        contexts = [tuple(text[at - order + 1 : at]) for at in range(order - 1, len(text))]
        share = sum(c in expected for c in contexts) / len(contexts) if contexts else 0
        assert store.coverage(text, order) == pytest.approx(share)


class Watch(NullProgress):
    """Notes what it is told; raises once asked often enough."""

    def __init__(self, checks: int = 1 << 30) -> None:
        super().__init__()
        self.steps: list[tuple[int, int, str]] = []
        self.checks = checks

    def step(self, done: int, total: int, stage: str = "") -> None:
        self.steps.append((done, total, stage))
        self.check()

    def check(self) -> None:
        self.checks -= 1
        if not self.checks:
            raise KeyboardInterrupt


def texts_of(kind: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    if kind == "one token":
        return [np.full(5000, 3)]
    if kind == "one sentence":
        return [np.tile([5, 6, 7, 5, 8], 900)]
    return [rng.zipf(1.3, 300) % 1000 for _ in range(20)]


@pytest.mark.parametrize("kind", ["one token", "one sentence", "text"])
@pytest.mark.parametrize("bucket", [1, 64, 1000])
def test_no_bucket_is_larger_than_asked_and_none_changes_the_bytes(tmp_path, kind, bucket):
    documents = texts_of(kind)
    if bucket == 1:
        documents = [document[:200] for document in documents[:3]]
    watch = Watch()
    build_store(documents, tmp_path / "a", tokenizer="t", vocab_size=1000, bucket=bucket, progress=watch)
    done = [0, *(step[0] for step in watch.steps if step[2] == "sorting n-grams")]
    assert 0 < np.diff(done).max() <= bucket
    assert done[-1] == watch.steps[-1][1] == sum(map(len, documents))
    build_store(documents[::-1], tmp_path / "b", tokenizer="t", vocab_size=1000)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_build_that_is_stopped_leaves_nothing(tmp_path):
    documents = texts_of("text")
    for checks in (1, 15, 30, 60, 200):
        with pytest.raises(KeyboardInterrupt):
            build_store(
                documents, tmp_path / "a", tokenizer="t", vocab_size=1000, bucket=50, progress=Watch(checks)
            )
        assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_built(tmp_path):
    for documents in ([], [[]]):
        with pytest.raises(FailedPrecondition) as refused:
            built(tmp_path, documents)
        assert refused.value.reason == Reason.NGRAMS_EMPTY
    for token in (-1, 10):
        with pytest.raises(InvalidArgument) as refused:
            built(tmp_path, [[1], [2, token]])
        assert refused.value.metadata["token"] == str(token)


def test_another_tokenizer_is_refused(tmp_path):
    store = built(tmp_path, [[1, 2]])
    store.require("sha256:t")
    with pytest.raises(FailedPrecondition) as refused:
        store.require("sha256:u")
    assert refused.value.reason == Reason.NGRAMS_TOKENIZER_MISMATCH
