"""Recovery: known means and intervals, the recovery rule, and what references are credited with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.attacks import KNOWLEDGE, VERBATIM, Attack, Metric, Outcome, attack_model, table
from services.unlearning.attacks.recovery import Interval, excess, recovered, recovery
from services.unlearning.removal.deciding import fails


def test_the_interval_is_the_percentile_bootstrap_of_the_mean():
    gains = np.random.default_rng(0).normal(12.0, 30.0, 100)
    found = recovery(gains, seed=3)
    assert found.value == pytest.approx(gains.mean())
    # An independent reference: resampled means by a plain loop, and the normal approximation.
    rng = np.random.default_rng(9)
    means = [gains[rng.integers(0, 100, 100)].mean() for _ in range(5000)]
    low, high = np.percentile(means, [2.5, 97.5])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.5), pytest.approx(high, abs=0.5))
    error = stats.norm.ppf(0.975) * gains.std() / 10
    assert found.high - found.low == pytest.approx(2 * error, rel=0.05)
    assert recovery(gains, seed=3) == found


def test_items_are_resampled_for_both_models_together():
    rng = np.random.default_rng(0)
    reference = rng.normal(20.0, 40.0, 200)
    found = excess(reference + rng.normal(3.0, 0.1, 200), [reference])
    assert found.value == pytest.approx(3.0, abs=0.05)
    assert found.high - found.low < 0.1  # unpaired it would be more than 10


def test_what_an_attack_takes_from_a_reference_is_not_credited_to_the_model():
    gains = np.array([1.0, 2.0, 3.0, 2.0])
    assert excess(gains, [np.full(4, -30.0)]).value == 2.0
    assert excess(gains, [np.full(4, 1.5)]).value == 0.5
    assert excess(gains, [np.full(4, 1.0), np.full(4, 2.0)]).value == 0.5
    assert excess(gains, []) == recovery(gains)


@pytest.mark.parametrize(
    ("metric", "interval", "expected"),
    [
        (VERBATIM, Interval(10.0, 0.1, 20.0, 50), True),
        (VERBATIM, Interval(9.99, 5.0, 15.0, 50), False),
        (VERBATIM, Interval(30.0, 0.0, 60.0, 5), False),
        (KNOWLEDGE, Interval(5.0, 1.0, 9.0, 50), True),
        (KNOWLEDGE, Interval(4.0, 3.0, 5.0, 50), False),
    ],
)
def test_the_recovery_rule(metric, interval, expected):
    assert recovered(interval, metric) is expected


def outcomes(gain, before=20.0, noise=1.0, seed=0, items=60):
    rng = np.random.default_rng(seed)
    start = np.full(items, before)
    return {"a": Outcome("a", {"verbmem": start}, {"verbmem": start + rng.normal(gain, noise, items)})}


def test_information_the_attack_injects_is_subtracted():
    attack = Attack("a")
    (row,) = table([attack], [VERBATIM], outcomes(15.0), [outcomes(1.0, seed=1)], outcomes(9.0, seed=2))
    assert row.gain.value == pytest.approx(15.0, abs=0.5)
    assert row.injected == pytest.approx(9.0, abs=0.5)
    assert row.net.value == pytest.approx(6.0, abs=0.7)
    assert not row.recovered  # 15 points, of which the attack itself taught 9
    assert row.excess is not None
    assert row.excess.value == pytest.approx(14.0, abs=0.7)
    assert row.tolerated is False


@pytest.mark.parametrize(("allowed", "tolerated"), [(None, False), (13.0, False), (15.0, True)])
def test_each_attack_says_what_it_allows(allowed, tolerated):
    attack = Attack("a", allowed=allowed)
    (row,) = table([attack], [VERBATIM], outcomes(15.0), [outcomes(1.0, seed=1)])
    assert row.tolerated is tolerated


def test_several_retrained_models_are_each_told():
    pool = [outcomes(1.0, seed=1), outcomes(3.0, seed=2)]
    (row,) = table([Attack("a")], [VERBATIM], outcomes(2.0), pool)
    assert row.retrained == (pytest.approx(1.0, abs=0.5), pytest.approx(3.0, abs=0.5))
    assert row.excess is not None
    assert row.excess.value == pytest.approx(0.0, abs=0.5)
    assert row.tolerated


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    gain=st.sampled_from([0.0, 4.0, 9.9, 10.0, 11.0, 30.0]),
    noise=st.sampled_from([0.0, 1.0, 40.0]),
    references=st.lists(st.sampled_from([-3.0, 0.0, 1.0, 12.0]), max_size=3),
    taught=st.none() | st.sampled_from([-2.0, 0.0, 5.0]),
    allowed=st.none() | st.sampled_from([0.0, 13.0]),
    seed=st.integers(0, 5),
)
def test_the_verdict_of_an_attack_follows_from_its_gain_and_its_bound(
    gain, noise, references, taught, allowed, seed
):
    pool = [outcomes(each, noise=noise, seed=seed + 1 + at) for at, each in enumerate(references)]
    never = None if taught is None else outcomes(taught, noise=noise, seed=seed + 9)
    found = outcomes(gain, noise=noise, seed=seed)
    (row,) = table([Attack("a", allowed=allowed)], [VERBATIM], found, pool, never)
    assert fails(row) == (row.gain.value > row.bound)


def test_a_bound_is_what_references_gain_and_what_is_allowed_beyond():
    pool = [outcomes(1.0, noise=0.0), outcomes(3.0, noise=0.0)]
    (row,) = table([Attack("a", allowed=5.0)], [VERBATIM], outcomes(20.0, noise=0.0), pool)
    assert row.bound == pytest.approx(2.0 + 5.0)
    (alone,) = table([Attack("a")], [VERBATIM], outcomes(20.0, noise=0.0))
    assert alone.bound == pytest.approx(10.0)


def scored(values):
    return lambda module: {"verbmem": np.array(values, dtype=float)}


@pytest.mark.parametrize(
    ("attacks", "values", "reason"),
    [
        ([Attack("a"), Attack("a")], [1, 2], Reason.ATTACK_INVALID),
        ([Attack("a")], [1, float("nan")], Reason.SCORES_INVALID),
        ([Attack("a")], [[1, 2]], Reason.SCORES_INVALID),
        ([Attack("a", scores=scored([1]))], [1, 2], Reason.SCORES_INVALID),
        ([Attack("a", measured={"verbmem": []})], [1, 2], Reason.ATTACK_INVALID),
        ([Attack("a", scores=lambda module: {})], [1, 2], Reason.ATTACK_INVALID),
    ],
)
def test_scores_and_attacks_that_do_not_fit(attacks, values, reason):
    with pytest.raises(InvalidArgument) as error:
        attack_model(nn.Linear(1, 1), scored(values), attacks)
    assert error.value.reason == reason


def test_every_model_is_put_through_every_attack_on_the_same_items():
    with pytest.raises(InvalidArgument) as error:
        table([Attack("a"), Attack("b")], [VERBATIM], outcomes(1.0))
    assert error.value.reason == Reason.ATTACK_INVALID
    with pytest.raises(InvalidArgument) as error:
        table([Attack("a")], [VERBATIM], outcomes(1.0), [outcomes(1.0, items=59)])
    assert error.value.reason == Reason.SCORES_INVALID
    other = {"a": Outcome("a", {"x": np.zeros(60)}, {"x": np.zeros(60)})}
    with pytest.raises(InvalidArgument) as error:
        table([Attack("a")], [VERBATIM], outcomes(1.0), [other])
    assert error.value.reason == Reason.SCORES_INVALID
    with pytest.raises(InvalidArgument):
        recovery(np.array([1.0]))
    assert table([Attack("a")], [Metric("nothing", 1.0)], outcomes(1.0)) == []
