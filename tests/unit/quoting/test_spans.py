"""Proposals: what, how long, how much of it; against plain loops."""

import numpy as np
import pytest

from palimpsest.decoding.quoting.spans import (
    LENGTHS,
    DraftLength,
    SuffixMatch,
    proposal_positions,
    relaxed,
    take_while,
)
from palimpsest.engine.costs import StepCost

from .blocks import block_of


@pytest.mark.parametrize("gamma", [5e-4, 0.05, 0.5, 1.0])
def test_acceptance_is_the_plain_rule(gamma):
    random = np.random.default_rng(0)
    best = random.uniform(0.1, 1, 300)
    own = best * random.uniform(0, 1, 300) ** 4
    draws = random.uniform(0, 1, 300)
    for p, b, u, greedy, sampled in zip(
        own, best, draws, relaxed(own, best, gamma), relaxed(own, best, gamma, draws), strict=True
    ):
        assert greedy == (p > 0.5 * gamma * b)
        assert sampled == (u < min(1.0, p / (gamma * b)))


def test_acceptance_by_chance_has_its_frequency():
    draws = np.random.default_rng(1).uniform(0, 1, 20_000)
    taken = relaxed(np.full(20_000, 0.03), np.full(20_000, 0.2), 0.5, draws)
    assert taken.mean() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    "accept", [[], [True], [False], [True, True, False, True], [True] * 5, [False, True]]
)
def test_the_longest_prefix_is_taken(accept):
    expected = next((n for n, a in enumerate(accept) if not a), len(accept))
    assert take_while(np.array(accept, dtype=bool)) == expected


def test_a_stretch_ends_with_its_passage_or_with_what_is_usable():
    block = block_of([range(40), range(100, 120)], passage_tokens=16)
    usable = np.random.default_rng(2).uniform(0, 1, len(block)) < 0.9
    passages = block.passage_of()
    for start in range(-1, len(block) + 2):
        for length in (-1, 0, 1, 5, 64):
            expected = []
            while (
                0 <= start < len(block)
                and len(expected) < length
                and (position := start + len(expected)) < len(block)
                and passages[position] == passages[start]
                and usable[position]
            ):
                expected.append(position)
            assert proposal_positions(block, start, length, usable).tolist() == expected


def test_the_longest_match_is_continued():
    random = np.random.default_rng(3)
    texts = [random.integers(0, 4, 30).tolist() for _ in range(3)]
    block = block_of(texts, passage_tokens=10, scores=[1.0, 3.0, 2.0])
    text, usable = random.integers(0, 4, 60).tolist(), random.uniform(0, 1, len(block)) < 0.9
    match = SuffixMatch(block)
    match.extend(text[:20])
    for count in range(20, 60):
        match.push(text[count])
        so_far, best, at = text[: count + 1], (1, 0.0), -1
        for position in range(len(block)):
            passage = int(block.passage_of()[position])
            before = block.tokens[int(block.first[passage]) : position].tolist()
            length = 0
            while length < len(before) and before[-1 - length] == so_far[-1 - length]:
                length += 1
            rank = (length, block.passages[passage].score)
            if usable[position] and length >= 2 and rank > best:
                best, at = rank, position
        assert match.best(usable) == at


guess = StepCost().relative


def test_lengths_grow_while_all_is_taken_and_shrink_when_not():
    length = DraftLength()
    seen = []
    for _ in range(8):
        seen.append(length(guess))
        length.saw(seen[-1], seen[-1])
    assert seen[0] == 7
    assert seen == sorted(seen)
    assert seen[-1] >= 63
    length.saw(63, 1)
    assert length(guess) <= 4
    for _ in range(20):
        length.saw(length(guess), 0)
    assert length(guess) == LENGTHS[0]
    assert DraftLength(most=5)(guess) <= 5


def test_the_length_chosen_brings_most_for_its_cost():
    length = DraftLength(most=63)
    for taken in (7, 15, 20, 31, 9):
        length.saw(31, taken)
    length._cap = 63
    rate = min(0.999, length._taken / length._seen)
    gains = {n: sum(rate**k for k in range(n + 1)) / guess(n + 1) for n in (3, 7, 15, 31, 63)}
    assert length(guess) == max(gains, key=gains.__getitem__)
