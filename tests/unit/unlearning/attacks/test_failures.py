"""Attacks that break a model: rows that say so, and speak neither for nor against the removal."""

import copy
import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from palimpsest.errors import DataLoss, FailedPrecondition, Reason
from palimpsest.training.recipe import Recipe
from services.unlearning.attacks import Attack, Metric, Outcome, attack_model, quantisation, relearning, table
from services.unlearning.attacks.quantisation import cast, round_to_nearest
from services.unlearning.attacks.sampling import sampling
from services.unlearning.metrics.generation import greedy
from services.unlearning.removal.deciding import fails
from tests.unit.unlearning import knowing

EM = Metric("em", threshold=10.0)
HUGE = Recipe(steps=8, learning_rate=100.0, batch=8, clip=0.0)


@pytest.fixture
def attacks():
    return [
        relearning("relearn/retain", knowing.RETAIN, HUGE, pad=0),
        quantisation(round_to_nearest(8, 32)),
    ]


def weights(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def test_a_relearning_that_diverges_is_a_row_that_was_not_measured(target, retrained, never_knew, attacks):
    before = weights(target)
    found = [attack_model(module, knowing.scores, attacks) for module in (target, retrained, never_knew)]
    assert all(torch.equal(p, q) for p, q in zip(weights(target), before, strict=True))
    rows = {
        row.attack: row for row in table(attacks, [EM], found[0], [found[1]], found[2], names=["reference"])
    }
    broken = rows["relearn/retain"]
    assert not broken.measured
    assert [each.model for each in broken.unmeasured] == ["after", "reference", "never_knew"]
    assert {each.failure.reason for each in broken.unmeasured} == {Reason.TRAINING_DIVERGED}
    assert broken.before > 95
    assert np.isnan([broken.after, broken.gain.value, broken.net.value]).all()
    assert not fails(broken)
    assert rows["int8/32"].measured
    assert rows["int8/32"].tolerated


def test_a_finite_loss_far_above_guessing_has_diverged_too(target):
    """AdamW's steps are bounded: a rate that is too high leaves finite weights, and a model that says nothing."""
    recipe = replace(HUGE, learning_rate=1.0, clip=1.0)
    found = attack_model(target, knowing.scores, [relearning("relearn", knowing.RETAIN, recipe, pad=0)])
    assert found["relearn"].failure is not None
    assert found["relearn"].failure.reason == Reason.TRAINING_DIVERGED


def test_a_model_that_begins_far_above_guessing_may_come_down(target):
    """One that was unlearned hard: three steps do not bring it below, and are no divergence."""
    module = copy.deepcopy(target)
    with torch.no_grad():
        module.lm_head.weight.mul_(-20)
    recipe = Recipe(steps=3, learning_rate=1e-3, batch=8)
    found = attack_model(module, knowing.scores, [relearning("relearn", knowing.RETAIN, recipe, pad=0)])
    assert found["relearn"].failure is None


def test_a_reference_that_breaks_is_left_out_of_the_comparison(target, retrained, never_knew):
    """The gain of the model itself is known, and counts as it does without references."""
    attack = quantisation(round_to_nearest(8, 32))
    fine = attack_model(target, knowing.scores, [attack])
    broken = copy.deepcopy(retrained)

    @contextmanager
    def destroyed(module):
        raise FailedPrecondition(Reason.TRAINING_DIVERGED, "gone")
        yield

    other = attack_model(broken, knowing.scores, [replace(attack, changed=destroyed)])
    (row,) = table([attack], [EM], fine, [other], names=["reference"])
    assert row.measured
    assert (row.retrained, row.excess, row.tolerated) == ((), None, None)
    assert [each.model for each in row.unmeasured] == ["reference"]
    again = attack_model(never_knew, knowing.scores, [attack])
    (row,) = table([attack], [EM], fine, [other, again], names=["reference", "second"])
    assert len(row.retrained) == 1
    assert row.tolerated


def test_weights_that_a_cast_overflows_are_not_measured(target):
    """Some metrics come out finite all the same: there is always a likeliest token."""
    module = copy.deepcopy(target)
    with torch.no_grad():
        module.lm_head.weight[0, 0] = 1e5  # more than float16 holds
    found = attack_model(
        module, knowing.scores, [quantisation(cast("float16")), quantisation(cast("bfloat16"))]
    )
    assert found["float16"].failure is not None
    assert found["float16"].failure.reason == Reason.METRIC_NOT_FINITE
    assert found["bfloat16"].failure is None


def test_scores_under_attack_that_are_no_numbers_are_not_measured(target):
    attack = Attack("a", scores=lambda module: {"em": np.full(8, np.nan)})
    found = attack_model(target, knowing.scores, [attack])
    assert found["a"].failure is not None
    assert found["a"].failure.reason == Reason.METRIC_NOT_FINITE


def test_a_mixture_of_experts_is_not_quantised_and_its_request_goes_on(target):
    module = copy.deepcopy(target)
    module.experts = torch.nn.ParameterDict({"down": torch.nn.Parameter(torch.zeros(2, 4, 4))})
    found = attack_model(
        module, knowing.scores, [quantisation(round_to_nearest(4, 32)), quantisation(cast("bfloat16"))]
    )
    assert found["int4/32"].failure is not None
    assert found["int4/32"].failure.reason == Reason.ATTACK_INVALID
    assert found["bfloat16"].failure is None


def test_other_errors_are_not_the_models(target):
    def lost(module):
        raise DataLoss(Reason.CHECKPOINT_DAMAGED, "gone")

    with pytest.raises(DataLoss):
        attack_model(target, knowing.scores, [Attack("a", scores=lost)])


def test_nothing_is_said_or_drawn_by_a_model_that_puts_out_no_numbers(target):
    module = copy.deepcopy(target)
    with torch.no_grad():
        module.lm_head.weight[5] = float("nan")
    with pytest.raises(FailedPrecondition) as told:
        greedy(module, [[1, 2], [3]], max_new_tokens=2, eos_ids=[])
    assert told.value.reason == Reason.METRIC_NOT_FINITE
    drawn = sampling([[1, 2], [3]], lambda place, ids: 0.0, "em", tokens=2, samples=2)
    with pytest.raises(FailedPrecondition) as told:
        drawn.scores(module)
    assert told.value.reason == Reason.METRIC_NOT_FINITE


def test_an_interrupted_call_goes_on_with_the_attacks_that_are_missing(target):
    scored = []

    def scores(module):
        scored.append(module)
        return knowing.scores(module)

    attacks = [quantisation(round_to_nearest(bits, 32)) for bits in (8, 4)]
    broken = relearning("relearn/retain", knowing.RETAIN, HUGE, pad=0)
    whole = attack_model(target, scores, [broken, *attacks])
    kept = {}

    def keep(outcome):
        kept[outcome.attack] = json.loads(json.dumps(outcome.facts()))
        if len(kept) == 2:
            raise DataLoss(Reason.CHECKPOINT_DAMAGED, "the worker dies")

    with pytest.raises(DataLoss):
        attack_model(target, scores, [broken, *attacks], keep=keep)
    scored.clear()
    known = {name: Outcome.of(facts) for name, facts in kept.items()}
    again = attack_model(target, scores, [broken, *attacks], known=known)
    assert len(scored) == 2  # before, and under the one attack that is missing
    assert list(again) == list(whole)
    assert [each.facts() for each in again.values()] == [each.facts() for each in whole.values()]
    scored.clear()
    attack_model(target, scores, [broken, *attacks], known=again)
    assert not scored
