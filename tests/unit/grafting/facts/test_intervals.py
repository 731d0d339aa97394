"""Intervals over facts: known answers, and how often they cover the truth."""

import numpy as np
import pytest
from scipy.stats import norm

from palimpsest.errors import InvalidArgument
from services.grafting.facts import difference_of, mean_of, ratio_of


def test_the_interval_of_a_mean_is_near_the_normal_one():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = mean_of(values)
    half = norm.ppf(0.975) * values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    wider = mean_of(values, 0.99)
    assert wider.low < found.low < found.high < wider.high


def test_pairs_stay_pairs():
    draw = np.random.default_rng(2)
    base = draw.normal(0.0, 100.0, 50)
    above = base + draw.normal(1.0, 0.1, 50)
    found = difference_of(above, base)
    assert 0.9 < found.low < found.value < found.high < 1.1
    ratio = ratio_of(np.exp(base / 100) * 5, np.exp(base / 100))
    assert ratio.value == pytest.approx(5.0)
    assert ratio.low == pytest.approx(5.0)
    assert ratio.high == pytest.approx(5.0)


def test_it_covers_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(3)
    found = [mean_of(draw.normal(0.0, 1.0, 30)) for _ in range(60)]
    assert 50 <= sum(each.low <= 0.0 <= each.high for each in found) <= 60


def test_facts_that_agree_leave_no_doubt():
    assert mean_of([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)
    assert str(mean_of([2.0, 2.0])) == "2 [2, 2]"
    assert difference_of([1.0, 2.0], [0.0, 1.0]) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("samples", [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, float("nan")], [1.0, 2.0])])
def test_what_has_no_interval_is_refused(samples):
    with pytest.raises(InvalidArgument):
        difference_of(*samples)
