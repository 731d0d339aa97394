"""Verdicts: one case for each, and what the bands rest on."""

import math

import numpy as np
import pytest

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from services.unlearning.verdicts import Criterion, Verdict, find, judge

POOL = (24.0, 26.0, 28.0)
"""VerbMem of three retrained models: mean 26, standard deviation 2."""


def verbmem(unlearned, **more):
    return Criterion("verbmem", unlearned, target=90.0, retrained=POOL, **more)


def utility(unlearned):
    return Criterion("utility", unlearned, target=97.0, retrained=(96.0, 95.0, 97.0), kind="utility")


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (26.0, Verdict.REMOVED),
        (30.9, Verdict.REMOVED),
        (21.1, Verdict.REMOVED),
        (31.1, Verdict.PARTLY_REMOVED),
        (57.9, Verdict.PARTLY_REMOVED),
        (58.1, Verdict.NOT_REMOVED),
        (120.0, Verdict.NOT_REMOVED),
        (20.9, Verdict.OVER_UNLEARNED),
        (0.0, Verdict.OVER_UNLEARNED),
        (math.nan, Verdict.DIVERGED),
    ],
)
def test_of_what_was_to_be_removed(value, verdict):
    assert find(verbmem(value)).verdict is verdict


@pytest.mark.parametrize(
    ("auc", "verdict"),
    [
        (0.02, Verdict.NOT_REMOVED),
        (0.30, Verdict.PARTLY_REMOVED),
        (0.45, Verdict.REMOVED),
        (1.0, Verdict.OVER_UNLEARNED),
    ],
)
def test_a_metric_that_rises_as_less_is_known(auc, verdict):
    criterion = Criterion("auc", auc, target=0.0, retrained=(0.46,), tolerance=0.05)
    assert find(criterion).verdict is verdict


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (99.0, Verdict.UTILITY_KEPT),
        (91.1, Verdict.UTILITY_KEPT),
        (90.9, Verdict.UTILITY_LOST),
        (0.0, Verdict.UTILITY_LOST),
    ],
)
def test_of_what_was_to_be_kept(value, verdict):
    assert find(utility(value)).verdict is verdict


def test_the_evidence():
    found = find(verbmem(42.0, error=3.0))
    sigma = math.sqrt(4.0 * (1 + 1 / 3) + 9.0)
    assert found.from_retrained == pytest.approx(16 / sigma)
    assert found.from_target == pytest.approx(-48 / sigma)
    assert found.position == pytest.approx(0.25)
    assert found.band == pytest.approx(1.96 * sigma)
    one = find(Criterion("k", 8.0, target=90.0, retrained=(6.0,)))
    assert (one.from_retrained, one.from_target, one.band) == (math.inf, -math.inf, 5.0)
    assert find(Criterion("k", 6.0, target=90.0, retrained=(6.0,))).from_retrained == 0.0


def test_models_that_differ_make_the_band_wide():
    pool = (10.0, 26.0, 42.0)
    assert find(Criterion("k", 45.0, target=90.0, retrained=pool)).verdict is Verdict.REMOVED
    assert find(Criterion("k", 45.0, target=90.0, retrained=(26.0,) * 3)).verdict is Verdict.PARTLY_REMOVED
    # A band that reaches further than half the way decides nothing in the model's favour.
    assert find(Criterion("k", 45.0, target=60.0, retrained=pool)).verdict is Verdict.UNDECIDED
    assert find(Criterion("k", 60.0, target=65.0, retrained=pool, error=0.0)).verdict is Verdict.NOT_REMOVED


def test_few_items_make_it_wide_as_well():
    rng = np.random.default_rng(0)
    target, pool = rng.normal(90, 5, 100), [rng.normal(26, 20, 100) for _ in range(3)]
    unlearned = pool[0] + rng.normal(12, 5, 100)
    many = Criterion.of_items("v", unlearned, target, pool)
    few = Criterion.of_items("v", unlearned[:8], target[:8], [each[:8] for each in pool])
    assert many.unlearned == pytest.approx(unlearned.mean())
    assert many.retrained == tuple(pytest.approx(each.mean()) for each in pool)
    differences = unlearned - (pool[0] + pool[1] + pool[2]) / 3
    assert many.error == pytest.approx(np.sqrt(differences.var(ddof=1) / 100))
    assert few.error > 2 * many.error


def test_a_metric_that_tells_nothing_apart_decides_nothing():
    found = find(Criterion("auc", 0.5, target=0.47, retrained=(0.46,), tolerance=0.05))
    assert found.verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("values", "diverged", "verdict"),
    [
        ((26.0, 96.0), False, Verdict.REMOVED),
        ((40.0, 96.0), False, Verdict.PARTLY_REMOVED),
        ((80.0, 96.0), False, Verdict.NOT_REMOVED),
        ((5.0, 96.0), False, Verdict.OVER_UNLEARNED),
        ((26.0, 20.0), False, Verdict.UTILITY_LOST),
        ((5.0, 20.0), False, Verdict.UTILITY_LOST),
        ((80.0, 20.0), False, Verdict.NOT_REMOVED),
        ((26.0, 96.0), True, Verdict.DIVERGED),
        ((math.inf, 96.0), False, Verdict.DIVERGED),
    ],
)
def test_the_verdict_over_all(values, diverged, verdict):
    found = judge([verbmem(values[0]), utility(values[1])], diverged=diverged)
    assert found.verdict is verdict
    assert len(found.findings) == 2
    assert found.reason.startswith(verdict)


def test_membership_within_its_band_by_collapse_is_no_removal():
    auc = Criterion("auc", 0.45, target=0.0, retrained=(0.46,), tolerance=0.05)
    assert judge([auc, utility(0.0)]).verdict is Verdict.UTILITY_LOST


def test_an_attack_that_brings_it_back_is_a_criterion_like_any_other():
    plain = Criterion("knowmem", 6.0, target=95.0, retrained=(5.0, 6.0, 7.0))
    attacked = Criterion("knowmem under int4/32", 90.0, target=95.0, retrained=(5.0, 5.5, 6.0))
    assert judge([plain]).verdict is Verdict.REMOVED
    found = judge([plain, attacked])
    assert found.verdict is Verdict.NOT_REMOVED
    assert found.reason == "NOT_REMOVED by knowmem under int4/32."


def test_where_nothing_can_be_told_nothing_is_decided():
    undecided = Criterion("auc", 0.5, target=0.47, retrained=(0.46,), tolerance=0.05)
    assert judge([undecided, utility(96.0)]).verdict is Verdict.UNDECIDED
    assert judge([utility(96.0)]).verdict is Verdict.UNDECIDED
    assert judge([undecided, verbmem(26.0)]).verdict is Verdict.REMOVED


def test_there_is_something_to_compare_with():
    with pytest.raises(FailedPrecondition) as error:
        find(Criterion("k", 1.0, target=2.0, retrained=()))
    assert error.value.reason == Reason.REFERENCE_MISSING
    with pytest.raises(InvalidArgument):
        judge([])
    with pytest.raises(InvalidArgument):
        Criterion.of_items("k", np.zeros(3), np.zeros(3), [np.zeros(2)])
    with pytest.raises(FailedPrecondition):
        Criterion.of_items("k", np.zeros(3), np.zeros(3), [])
