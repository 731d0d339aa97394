"""The mixture against plain loops in double precision."""

import math

import numpy as np
import pytest
import torch

from palimpsest.candidates import Mode, NestSettings
from palimpsest.candidates.keys import dequantise
from palimpsest.candidates.mixture import KeyIndex, Mixed, search

from .blocks import block_of, fill

VOCABULARY = 200


def example(seed: int = 0, documents: int = 4, tokens: int = 40):
    random = np.random.default_rng(seed)
    texts = [random.integers(0, 60, tokens).tolist() for _ in range(documents)]
    block = fill(block_of(texts, size=32, passage_tokens=16, scores=[4.0, 2.0, 1.0, 0.5][:documents]), seed)
    block.scales[::7] = 0  # tokens without a key
    return block, KeyIndex(block, special=[5, 6])


def by_hand(block, store, state, logits, live, settings):
    """One position: ratio, weight, {token: probability}, {place: neighbour weight}."""
    d, special = block.keys.shape[1], {5, 6}
    length = math.sqrt(sum(float(x) ** 2 for x in state))
    query = [float(x) / length * math.sqrt(d) for x in state]
    top = max(p.score for p in block.passages)
    found = []
    positions = block.passage_of()
    for position in range(len(block.tokens)):
        number = store.number[position]
        if block.scales[position] == 0 or int(block.tokens[position]) in special:
            assert number == -1
            continue
        if not live[number]:
            continue
        key = dequantise(block.keys[position : position + 1], block.scales[position : position + 1])[
            0
        ].astype(float)
        squared = sum((a - b) ** 2 for a, b in zip(query, key.tolist(), strict=True))
        found.append((squared, math.log(block.passages[positions[position]].score / top), position))
    total = sum(math.exp(x) for x in logits)
    model = {token: math.exp(x) / total for token, x in enumerate(logits)}
    if len(found) < 8:
        return 1.0, 1.0, model, {}
    found = sorted(found)[: settings.r]
    ratio = found[0][0] / found[-1][0]
    weight = 1 / (1 + math.exp(-(ratio - settings.alpha) / settings.tau))
    if settings.mode is Mode.KNN_LM:
        weight = settings.lm_weight
    raw = {
        position: math.exp(-settings.mu / math.sqrt(d) * s + settings.beta * p) for s, p, position in found
    }
    share = {position: x / sum(raw.values()) for position, x in raw.items()}
    mixed = {token: weight * p for token, p in model.items()}
    for position, x in share.items():
        mixed[int(block.tokens[position])] += (1 - weight) * x
    return ratio, weight, mixed, share


@pytest.mark.parametrize(
    "settings",
    [
        NestSettings(mu=0.3, alpha=0.8, tau=0.1, r=16, beta=0.0),
        NestSettings(mu=1.0, alpha=0.6, tau=0.2, r=64, beta=2.0),
        NestSettings(mu=0.1, alpha=0.3, tau=0.1, r=1024, beta=5.0),
        NestSettings(mode=Mode.KNN_LM, mu=0.5, alpha=0.3, tau=0.1, r=32, beta=0.0, lm_weight=0.4),
    ],
)
def test_the_mixture_is_the_plain_loop(settings):
    block, store = example()
    random = torch.Generator().manual_seed(1)
    states = torch.randn(6, 32, generator=random) * 9
    logits = torch.randn(6, VOCABULARY, generator=random) * 2
    live = torch.rand(len(store), generator=random) < 0.8
    mixed = Mixed(store, search(store, states, live, settings.r), logits, settings)
    for row in range(6):
        ratio, weight, expected, share = by_hand(
            block, store, states[row], logits[row].tolist(), live, settings
        )
        assert mixed.ratio[row] == pytest.approx(ratio, abs=1e-4)
        assert mixed.weight[row] == pytest.approx(weight, abs=1e-4)
        best = max(expected, key=expected.__getitem__)
        assert mixed.best[row] == best
        assert mixed.best_probability[row] == pytest.approx(expected[best], abs=1e-5)
        positions = np.full(6, 3 * row + 1)
        assert mixed.of_positions(positions)[row] == pytest.approx(
            expected[int(block.tokens[positions[0]])], abs=1e-5
        )
        dense = mixed.dense(row, torch.softmax(logits[row], 0)).tolist()
        assert dense == pytest.approx([expected[t] for t in range(VOCABULARY)], abs=1e-5)
        token = int(torch.randint(0, VOCABULARY, (), generator=random))
        of_tokens = mixed.of_tokens(torch.full((6,), token))
        assert float(of_tokens[row]) == pytest.approx(expected[token], abs=1e-5)
        assert sum(expected.values()) == pytest.approx(1)
        nearest = max(share, key=share.__getitem__)
        assert share[mixed.nearest(row)] == pytest.approx(share[nearest], rel=1e-4)
        for wanted in {int(block.tokens[nearest]), best, 199}:
            usable = np.random.default_rng(row).uniform(0, 1, len(block)) < 0.7
            own = {
                position: x
                for position, x in share.items()
                if block.tokens[position] == wanted and usable[position]
            }
            found = mixed.carrier(row, wanted, usable)
            assert (found == -1) == (not own)
            if own:
                assert own[found] == pytest.approx(max(own.values()), rel=1e-4)


def test_neighbours_are_never_more_than_live_keys():
    _, store = example()
    states = torch.randn(3, 32, generator=torch.Generator().manual_seed(3))
    live = torch.zeros(len(store), dtype=torch.bool)
    live[:9] = True
    found = search(store, states, live, 1024)
    assert found.keys.shape == (3, 9)
    assert found.distances.isfinite().all()
    assert (found.ratio() > 0.05).all()
    live[8] = live[7] = False
    assert search(store, states, live, 1024) is None


def test_a_small_store_leaves_the_model_alone():
    block, store = example()
    logits = torch.randn(2, VOCABULARY, generator=torch.Generator().manual_seed(4))
    mixed = Mixed(store, None, logits, NestSettings().filled(None))
    probabilities = torch.softmax(logits, -1)
    assert mixed.weight.tolist() == [1, 1]
    assert mixed.best.tolist() == probabilities.argmax(-1).tolist()
    assert mixed.carrier(0, 1, np.ones(len(block), bool)) == mixed.nearest(0) == -1
    ids = torch.from_numpy(block.tokens[[2, 3]].astype(np.int64))
    expected = probabilities.gather(1, ids[:, None])[:, 0]
    torch.testing.assert_close(torch.from_numpy(mixed.of_positions(np.array([2, 3]))), expected)
    torch.testing.assert_close(mixed.of_tokens(ids), expected)


def test_an_exact_copy_is_trusted_and_a_key_that_all_share_is_not():
    _, store = example()
    states = store.keys[[4]] * 0.01
    near = search(store, states, torch.ones(len(store), dtype=torch.bool), 64)
    assert int(near.keys[0, 0]) == 4
    assert float(near.ratio()[0]) < 0.01
    near.distances[:] = 0
    assert float(near.ratio()[0]) == 1


def test_no_special_token_is_among_the_neighbours():
    block, store = example()
    for token in (5, 6):
        positions = np.flatnonzero(block.tokens == token)
        assert len(positions)
        assert (store.number[positions] == -1).all()
        assert not store.allowed[positions].any()
    assert store.vocabulary.tolist() == sorted(set(block.tokens.tolist()))


def test_an_empty_block_is_searched_in_vain():
    store = KeyIndex(block_of([], size=32))
    assert len(store) == 0
    assert search(store, torch.ones(1, 32), torch.zeros(0, dtype=torch.bool), 8) is None
