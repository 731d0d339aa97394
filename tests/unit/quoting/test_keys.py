"""Keys against transformers' own states, one passage at a time; what rounding them costs."""

import math

import numpy as np
import pytest
import torch

from palimpsest.candidates.keys import (
    dequantise,
    fill,
    missing,
    passages_of,
    quantise,
    submit_keys,
)
from palimpsest.engine import Request
from palimpsest.errors import InvalidArgument, ResourceExhausted
from tests.unit.quoting.at_once import passage_keys

from .blocks import block_of


def ids_of(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(3, 340, count).tolist()


def states_of(model, ids: list[int]) -> torch.Tensor:
    """What the last MLP reads at every token, scaled: [tokens, d]."""
    seen = []
    hook = model.module.model.layers[-1].mlp.register_forward_pre_hook(lambda _, x: seen.append(x[0][0]))
    with torch.inference_mode():
        model.module(input_ids=torch.tensor([ids]))
    hook.remove()
    states = seen[0].float()
    return states / states.norm(dim=1, keepdim=True) * math.sqrt(states.shape[1])


@pytest.mark.parametrize(
    ("tokens", "left"), [(20, 0), (20, 1), (20, 2), (20, 9), (1, 0), (1, 1), (1, 5), (300, 40)]
)
def test_a_key_is_the_state_before_its_token(tiny, tokens, left):
    before, ids = ids_of(left, 1), ids_of(tokens, 2)
    found = passage_keys(tiny, [(ids, before)])[0]
    assert found.keys.shape == (tokens, 64)
    states = states_of(tiny, before + ids)
    for i in range(tokens):
        position = left + i - 1
        if position < 1:  # nothing before it, or only the very first position, which is an outlier
            assert found.scales[i] == found.norms[i] == 0
            assert not found.keys[i].any()
        else:
            own = dequantise(found.keys[i : i + 1], found.scales[i : i + 1])[0]
            error = np.abs(own - states[position].numpy()).max()
            assert error <= 0.51 * found.scales[i] + 1e-3
            assert found.norms[i] == pytest.approx(float((own.astype(np.float64) ** 2).sum()), rel=1e-5)


def test_passages_do_not_depend_on_what_is_read_beside_them(tiny):
    passages = [
        (ids_of(n, n), ids_of(m, n + 50)) for n, m in ((5, 3), (130, 32), (70, 0), (128, 32), (1, 0), (9, 1))
    ]
    together = passage_keys(tiny, passages)
    for passage, found in zip(passages, together, strict=True):
        alone = passage_keys(tiny, [passage])[0]
        np.testing.assert_array_equal(alone.keys, found.keys)
        np.testing.assert_array_equal(alone.scales, found.scales)
        np.testing.assert_array_equal(alone.norms, found.norms)
    assert tiny.pool.used == 0


def test_rounding_is_by_one_scale_a_key():
    states = torch.randn(50, 96, generator=torch.Generator().manual_seed(0)) * 37
    found = quantise(states)
    for i, state in enumerate(states.tolist()):
        length = math.sqrt(sum(x * x for x in state))
        scaled = [x / length * math.sqrt(96) for x in state]
        scale = max(abs(x) for x in scaled) / 127
        assert found.scales[i] == pytest.approx(scale, rel=1e-5)
        assert all(
            abs(k - x / scale) <= 0.5 + 1e-3 for k, x in zip(found.keys[i].tolist(), scaled, strict=True)
        )
    assert not quantise(torch.zeros(2, 96)).scales.any()
    assert quantise(torch.zeros(0, 96)).keys.shape == (0, 96)


def test_an_engine_computes_them_beside_its_streams(make_engine, tiny):
    engine = make_engine()
    block = block_of([ids_of(200, 7), ids_of(90, 8)], passage_tokens=32, left=16)
    numbers = missing(block)
    passages = passages_of(block, numbers)
    assert missing(block) == list(range(len(block.passages)))
    done = []
    engine.submit(Request(ids_of(20), max_tokens=300, ignore_eos=True), done.extend)
    found = submit_keys(engine, passages).result(60)
    fill(block, numbers, found)
    assert missing(block) == []
    for own, expected in zip(found, passage_keys(tiny, passages), strict=True):
        np.testing.assert_array_equal(own.keys, expected.keys)
    block.check()


def test_what_can_never_fit_is_refused(make_engine):
    engine = make_engine(cache_bytes=10 * 16 * 2 * 2 * 2 * 16 * 4)
    with pytest.raises(InvalidArgument):
        submit_keys(engine, [(ids_of(3000), [])])
    with pytest.raises(ResourceExhausted):
        submit_keys(engine, [(ids_of(200), [])])
    with pytest.raises(InvalidArgument, match="vocabulary"):
        submit_keys(engine, [([1, 2], []), ([1], [347])])
    assert len(submit_keys(engine, [(ids_of(150), [])]).result(60)) == 1
