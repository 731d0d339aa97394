"""Between two checkpoints: bisection on analytic curves, and weights that are the ends at the ends."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.stopping.interpolation import bisect, mix


def cliff(share):
    """An AUC that jumps from nearly 0 to nearly 1 around 0.37."""
    return 1 / (1 + math.exp(-60 * (share - 0.37)))


def test_bisection_finds_the_edge_of_a_cliff():
    calls = []

    def value(share):
        calls.append(share)
        return cliff(share)

    found = bisect(value, (cliff(0), cliff(1)), 0.5, tolerance=0.05, tries=12)
    assert abs(found.value - 0.5) <= 0.05
    assert abs(found.share - 0.37) <= 0.05 / 15  # the slope there is 60 / 4
    assert calls[:3] == [0.5, 0.25, 0.375]
    assert [share for share, _ in found.tried] == calls
    assert len(calls) < 12  # it ends within the tolerance


def test_a_falling_curve_works_as_well():
    found = bisect(lambda share: 1 - cliff(share), (1 - cliff(0), 1 - cliff(1)), 0.5, tries=20)
    assert found.share == pytest.approx(0.37, abs=1e-5)


@given(st.floats(0.01, 0.99), st.floats(0.2, 5.0), st.integers(1, 20))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_each_try_halves_the_distance_on_any_monotone_curve(root, power, tries):
    def value(share):
        return math.copysign(abs(share - root) ** power, share - root)

    found = bisect(value, (value(0), value(1)), 0.0, tries=tries)
    assert abs(found.share - root) <= 2.0**-tries
    assert len(found.tried) <= tries


def test_a_step_function_gets_its_nearer_side():
    found = bisect(lambda share: 0.2 if share < 0.6 else 0.9, (0.2, 0.9), 0.5, tries=6)
    assert found.value == 0.2
    assert len(found.tried) == 6


def test_an_end_that_will_do_needs_no_try():
    found = bisect(lambda share: pytest.fail("tried"), (0.46, 0.9), 0.5, tolerance=0.05)
    assert (found.share, found.value, found.tried) == (0.0, 0.46, ())


@pytest.mark.parametrize("ends", [(0.6, 0.9), (0.1, 0.2), (math.nan, 0.9), (0.1, math.nan)])
def test_ends_on_one_side_enclose_nothing(ends):
    with pytest.raises(InvalidArgument) as error:
        bisect(cliff, ends, 0.5)
    assert error.value.reason == Reason.BRACKET_INVALID


def test_mixed_weights_lie_on_the_line_and_are_the_ends_at_its_ends():
    generator = torch.Generator().manual_seed(0)
    module = nn.Linear(33, 17)
    first = {name: torch.randn(p.shape, generator=generator) for name, p in module.named_parameters()}
    second = {name: torch.randn(p.shape, generator=generator) * 1e3 for name in first for p in [first[name]]}
    for share, expected in ((0.0, first), (1.0, second)):
        mix(module, first, second, share)
        assert all(torch.equal(p, expected[name]) for name, p in module.named_parameters())
    mix(module, first, second, 0.25)
    torch.testing.assert_close(module.weight.data, 0.75 * first["weight"] + 0.25 * second["weight"])
    mix(module, {"bias": first["bias"]}, {"bias": first["bias"]}, 0.0)
    assert torch.equal(module.bias, first["bias"])
    torch.testing.assert_close(module.weight.data, 0.75 * first["weight"] + 0.25 * second["weight"])
