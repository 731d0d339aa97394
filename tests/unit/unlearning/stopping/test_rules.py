"""Stopping rules on scripted sequences: which measurement each ends a run at, and how."""

import math

import numpy as np
import pytest
from scipy import stats

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from services.unlearning.stopping import (
    Bound,
    DivergenceGuard,
    ForgetMatch,
    HoldoutMatch,
    Measurement,
    PrivacyMatch,
    Scalarisation,
    UtilityFloor,
)
from services.unlearning.stopping.epochs import forget_match, utility_floor
from services.unlearning.stopping.rules import Target


def ended(rule, **columns):
    """Step and outcome at which a rule ends a run with these metrics at steps 0, 1, ...; None: it does not."""
    history = []
    for step, row in enumerate(zip(*columns.values(), strict=True)):
        history.append(Measurement(step, dict(zip(columns, row, strict=True))))
        decision = rule.judge(history)
        if decision is not None:
            assert decision.rule == rule.name
            return step, decision.outcome
    return None


FORGET = ForgetMatch((Bound("verbmem", 26.0, 2.0), Bound("knowmem", 6.0, 1.0)))


def test_forget_match_waits_for_every_metric():
    verbmem = [90, 60, 27, 40, 28, 10]
    knowmem = [97, 50, 30, 7, 7, 0]
    assert ended(FORGET, verbmem=verbmem, knowmem=knowmem) == (4, "matched")
    assert ended(FORGET, verbmem=[90, 29], knowmem=[97, 0]) is None
    assert ended(ForgetMatch((Bound("nll", 3.0, 0.5, higher_knows=False),)), nll=[0.1, 2.4, 2.5]) == (
        2,
        "matched",
    )


@pytest.mark.parametrize(("metric", "reference"), [("auc", 0.46), ("forget_nll", 3.0)])
def test_forget_match_ends_where_the_forget_set_has_become_less_likely_than_to_the_reference(
    metric, reference
):
    past = Target(metric, reference, 0.05 * reference)
    rule = ForgetMatch((Bound("forget_em", 30.0),), past=past)
    slow = [90, 80, 70, 60, 29]
    scale = [share * reference for share in (0.1, 0.5, 0.9, 1.4, 2.0)]
    assert ended(rule, forget_em=slow, **{metric: scale}) == (3, "crossed")
    rows = zip(slow[:4], scale, strict=False)
    history = [Measurement(at, {"forget_em": em, metric: value}) for at, (em, value) in enumerate(rows)]
    decision = rule.judge(history)
    assert decision is not None
    assert decision.target == past
    assert metric in decision.detail
    # What is known may come down first, as before; and without the other bound nothing else ends the run.
    assert ended(rule, forget_em=[90, 30, 10], **{metric: scale[:3]}) == (1, "matched")
    assert ended(ForgetMatch(rule.bounds), forget_em=slow, **{metric: scale}) == (4, "matched")
    # Where a single step takes it past both, what lies between is looked at as well.
    far = rule.judge([history[0], Measurement(1, {"forget_em": 10, metric: scale[4]})])
    assert far is not None
    assert (far.outcome, far.target) == ("matched", past)
    # A model to which it is as unlikely before the first step has not come past anything.
    assert ended(rule, forget_em=slow, **{metric: [1.1 * reference, *scale[1:]]}) == (4, "matched")
    assert ended(rule, forget_em=slow[:3], **{metric: [scale[0], math.nan, math.nan]}) is None


@pytest.mark.parametrize(("metric", "field"), [("auc", "auc"), ("forget_nll", "nll")])
def test_what_stands_out_costs_as_much_as_what_is_known(metric, field):
    declared = Scalarisation((Bound("forget_em", 30.0),), **{field: 2.0})
    rows = [(80, 1.0), (40, 2.0), (35, 3.0), (31, 6.0)]
    history = [Measurement(at, {"forget_em": em, metric: value}) for at, (em, value) in enumerate(rows)]
    assert [declared.cost(each) for each in history] == pytest.approx([55.0, 10.0, 10.0, 21.0])
    assert Scalarisation(declared.bounds).best(history).step == 3
    assert declared.best(history).step == 1


def test_a_metric_that_was_not_measured_is_named():
    with pytest.raises(FailedPrecondition, match="knowmem") as error:
        FORGET.judge([Measurement(0, {"verbmem": 1.0})])
    assert error.value.reason == Reason.METRIC_MISSING


def test_privacy_match_stops_at_the_first_crossing():
    rule = PrivacyMatch(0.46)
    assert ended(rule, auc=[0.0, 0.1, 0.43, 0.9]) == (2, "matched")
    assert ended(rule, auc=[0.0, 0.1, 0.8, 0.46]) == (2, "crossed")
    assert ended(rule, auc=[0.0, 0.1, 0.2]) is None
    decision = rule.judge([Measurement(0, {"auc": 0.1}), Measurement(15, {"auc": 0.8})])
    assert decision is not None
    assert decision.target == Target("auc", 0.46, 0.05)
    assert ended(rule, auc=[0.0, math.nan, 0.46]) == (2, "matched")


def test_holdout_match_needs_no_retrained_model():
    rng = np.random.default_rng(0)
    holdout = tuple(rng.normal(5.0, 0.5, 60))
    script = [rng.normal(mean, 0.5, 60) for mean in (1.0, 3.0, 4.5, 5.05, 8.0)]
    rule, found = HoldoutMatch(), []
    for step, forget in enumerate(script):
        losses = {"forget": tuple(forget), "holdout": holdout}
        decision = rule.judge([Measurement(step, {}, losses)])
        found.append(decision and decision.outcome)
        p = stats.kstest(forget, holdout).pvalue
        assert (decision is not None and decision.outcome == "matched") == (p > 0.05)
    assert found == [None, None, None, "matched", "crossed"]
    crossed = rule.judge([Measurement(4, {}, {"forget": tuple(script[4]), "holdout": holdout})])
    assert crossed is not None
    assert crossed.target == Target("loss_gap", 0.0, 0.0)
    assert rule.judge([Measurement(4, {}, {"forget": (math.nan,), "holdout": holdout})]) is None


def test_utility_floor():
    rule = UtilityFloor(80.0, 5.0)
    assert ended(rule, utility=[100, 90, 75, 74.9]) == (3, "floor")
    assert ended(rule, utility=[100, 75]) is None


def test_the_guard_knows_what_is_broken():
    guard = DivergenceGuard(vocabulary=1000)
    limit = math.log(1000) + 2
    assert ended(guard, forget_nll=[1.0, limit, limit + 0.01]) == (2, "diverged")
    assert ended(guard, forget_nll=[1.0, math.nan]) == (1, "diverged")
    assert ended(guard, utility=[1.0, math.inf]) == (1, "diverged")
    assert ended(guard, repetition=[0.1, 0.5, 0.51]) == (2, "diverged")
    assert ended(guard, forget_nll=[1.0, limit], repetition=[0.0, 0.5]) is None


KNOWLEDGE = [97.5, 56.0, 33.0, 5.8, 1.0, 7.0]
"""KnowMem on the forget set after each epoch."""
UTILITY = [97.5, 99.0, 95.0, 86.0, 84.9, 98.0]
"""KnowMem on the retain set."""


def test_the_released_codes_rule_takes_the_first_epoch_at_the_reference():
    chosen = forget_match(KNOWLEDGE, 5.8)
    assert (chosen.rule, chosen.epoch, chosen.fired) == ("forget_match", 4, True)
    chosen = forget_match(KNOWLEDGE, 0.5)
    assert (chosen.epoch, chosen.fired) == (6, False)  # never: the last


def test_the_papers_rule_takes_the_first_epoch_below_the_floor():
    chosen = utility_floor(UTILITY, 86.0)
    assert (chosen.rule, chosen.epoch, chosen.fired) == ("utility_floor", 5, True)  # equal is not below
    assert utility_floor(UTILITY, 50.0).epoch == 6
    chosen = utility_floor([90.0] * 12 + [0.0], 80.0)
    assert (chosen.epoch, chosen.fired) == (10, False)  # ten epochs at most


def test_both_rules_need_epochs():
    for rule in (forget_match, utility_floor):
        with pytest.raises(InvalidArgument):
            rule([], 1.0)


def measured(step, verbmem, auc, utility):
    return Measurement(step, {"verbmem": verbmem, "auc": auc, "utility": utility})


def test_the_best_checkpoint_is_by_the_declared_cost_never_simply_the_last():
    declared = Scalarisation((Bound("verbmem", 26.0),), auc=0.4, privacy_weight=0.1, utility=76.0)
    history = [
        measured(0, 90, 0.0, 98),
        measured(5, 30, 0.3, 90),  # 4 + 0.1 * 25 = 6.5
        measured(10, 26, 0.5, 80),  # 0.1 * 25 = 2.5
        measured(15, 20, 0.4, 75),  # 0, and below the utility asked for
        measured(20, 0, 0.9, 10),
    ]
    assert [declared.cost(each) for each in history] == pytest.approx([74.0, 6.5, 2.5, 0.0, 12.5])
    assert declared.best(history).step == 10
    assert declared.best(history, broken=[10]).step == 5
    assert declared.best(history[3:]).step == 15  # none keeps it: the one that misses the least
    assert declared.best(history[:1], broken=[0]).step == 0


def test_of_equals_the_one_of_most_utility_then_the_earliest():
    declared = Scalarisation((Bound("verbmem", 26.0),))
    history = [measured(1, 10, 0.1, 70), measured(2, 20, 0.1, 90), measured(3, 20, 0.1, 90)]
    assert declared.best(history).step == 2


def test_what_is_not_a_number_is_never_the_best():
    declared = Scalarisation((Bound("verbmem", 26.0),), auc=0.4, utility=50.0)
    sound = measured(0, 90, 0.0, 60)
    for broken in (
        measured(1, math.nan, 0.4, 60),
        measured(1, 10, math.nan, 60),
        measured(1, 10, 0.4, math.nan),
    ):
        assert declared.best([sound, broken]) is sound


def test_measurements_survive_json():
    measurement = Measurement(0.5, {"auc": 0.25}, {"forget": (1.0, 0.1)})
    assert Measurement.of(measurement.facts()) == measurement
