"""Watched runs: where they end, which weights they leave, and that one that was interrupted ends alike."""

import json
import math

import pytest
import torch
from torch import nn

from palimpsest.errors import DataLoss, FailedPrecondition, InvalidArgument, Reason
from palimpsest.progress import NullProgress
from palimpsest.training.loop import train
from palimpsest.training.objectives import Stateful
from palimpsest.training.recipe import Recipe
from services.unlearning.stopping import (
    Bound,
    DivergenceGuard,
    Measurement,
    PrivacyMatch,
    Scalarisation,
    UtilityFloor,
    Watch,
)

GUARD = DivergenceGuard(vocabulary=100)
COST = Scalarisation((Bound("verbmem", 20.0),), auc=0.5, privacy_weight=1.0)


class Scale(nn.Module):
    """A model of one weight, which a step of training raises by one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.fixed = nn.Parameter(torch.full((1,), 7.0), requires_grad=False)


def cliff(module, step):
    """Metrics that follow from the weight: an AUC that jumps between 3 and 4, memorisation and utility that fall."""
    weight = module.weight.item()
    auc = 1 / (1 + math.exp(-8 * (weight - 3.4)))
    return Measurement(step, {"auc": auc, "verbmem": 90 - 20 * weight, "utility": 100 - 5 * weight})


def scripted(*rows):
    def measure(module, step):
        verbmem, nll = rows[int(step)]
        return Measurement(step, {"auc": 0.5, "verbmem": verbmem, "utility": 50.0, "forget_nll": nll})

    return measure


def run(watch, module, steps, first=0):
    for step in range(first, steps):
        with torch.no_grad():
            module.weight += 1
        if watch(step):
            break


def test_a_crossing_is_searched_for_the_point_between_two_steps():
    module = Scale()
    watch = Watch(module, cliff, [PrivacyMatch(0.5, 0.02)], COST, GUARD)
    watch.begin()
    run(watch, module, 10)
    assert module.weight.item() == 4.0  # 0.03 at 3, 0.99 at 4
    choice = watch.finish()
    assert choice.decision is not None
    assert (choice.decision.rule, choice.decision.outcome) == ("privacy_match", "crossed")
    assert choice.last.step == 4
    assert 3 < choice.measurement.step < 4
    assert abs(choice.measurement["auc"] - 0.5) <= 0.02
    assert module.weight.item() == pytest.approx(choice.measurement.step, abs=1e-6)
    assert cliff(module, 0)["auc"] == choice.measurement["auc"]
    assert [each.step for each in choice.history] == sorted(each.step for each in choice.history)
    assert float(module.fixed) == 7.0


def test_the_result_is_the_best_so_far_not_the_last():
    module = Scale()
    rows = [(90, 1.0), (40, 2.0), (22, 3.0), (60, 3.0), (70, 3.0)]
    watch = Watch(module, scripted(*rows), [], COST, GUARD)
    watch.begin()
    run(watch, module, 4)
    choice = watch.finish()
    assert choice.decision is None
    assert (choice.measurement.step, choice.last.step) == (2, 4)
    assert module.weight.item() == 2.0


def test_a_broken_model_goes_back_to_the_best_sound_one():
    module = Scale()
    watch = Watch(module, scripted((90, 1.0), (30, 2.0), (0, 50.0), (0, 50.0)), [], COST, GUARD)
    watch.begin()
    run(watch, module, 3)
    choice = watch.finish()
    assert choice.decision is not None
    assert choice.decision.outcome == "diverged"
    assert choice.last.step == 2
    assert choice.measurement.step == 1
    assert module.weight.item() == 1.0


def test_measurements_are_taken_every_so_many_steps():
    module = Scale()
    watch = Watch(module, cliff, [UtilityFloor(72.0)], COST, GUARD, every=3)
    watch.begin()
    run(watch, module, 20)
    choice = watch.finish()
    assert [each.step for each in choice.history] == [0, 3, 6]
    assert choice.decision is not None
    assert choice.decision.outcome == "floor"


def test_what_holds_before_the_first_step_ends_no_run():
    module = Scale()
    watch = Watch(module, cliff, [UtilityFloor(200.0)], COST, GUARD)
    watch.begin()
    run(watch, module, 5)
    assert module.weight.item() == 1.0


def test_a_run_that_begins_past_the_target_has_nothing_to_search():
    module = Scale()
    with torch.no_grad():
        module.weight += 5
    watch = Watch(module, cliff, [PrivacyMatch(0.5, 0.02)], COST, GUARD)
    watch.begin()
    run(watch, module, 3)
    choice = watch.finish()
    assert choice.decision is not None
    assert choice.decision.outcome == "crossed"
    assert [each.step for each in choice.history] == [0, 1]


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path):
    whole = Scale()
    watch = Watch(whole, cliff, [PrivacyMatch(0.5, 0.02)], COST, GUARD, folder=tmp_path / "whole")
    watch.begin()
    run(watch, whole, 10)
    expected = watch.finish()

    folder = tmp_path / "parts"
    module = Scale()
    watch = Watch(module, cliff, [PrivacyMatch(0.5, 0.02)], COST, GUARD, folder=folder)
    watch.begin()
    run(watch, module, 2)
    state = json.dumps(watch.state())
    weight = module.weight.detach().clone()
    run(watch, module, 3, first=2)  # done, and lost with the process

    module = Scale()
    watch = Watch(module, cliff, [PrivacyMatch(0.5, 0.02)], COST, GUARD, folder=folder)
    watch.begin()
    with torch.no_grad():
        module.weight.copy_(weight)
    watch.restore(json.loads(state))
    run(watch, module, 10, first=2)
    assert watch.finish() == expected
    assert torch.equal(module.weight, whole.weight)
    watch.discard()
    assert [p.name for p in folder.iterdir() if p.name != "step-000000000.safetensors"] == []


def test_a_decision_survives_a_state():
    module = Scale()
    watch = Watch(module, cliff, [PrivacyMatch(0.5, 0.02)], COST, GUARD)
    watch.begin()
    run(watch, module, 10)
    state = watch.state()
    assert json.loads(json.dumps(state)) == state
    again = Watch(module, cliff, [PrivacyMatch(0.5, 0.02)], COST, GUARD)
    again.restore(state)
    assert again.state() == state


def test_weights_that_were_damaged_on_disk_are_not_used(tmp_path):
    module = Scale()
    watch = Watch(module, cliff, [], COST, GUARD, folder=tmp_path)
    watch.begin()
    run(watch, module, 1)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(DataLoss) as error:
        watch.finish()
    assert error.value.reason == Reason.CHECKPOINT_DAMAGED


def test_only_the_best_and_the_last_two_are_kept(tmp_path):
    module = Scale()
    rows = [(90, 1.0), (21, 1.0), *[(60, 1.0)] * 6]
    watch = Watch(module, scripted(*rows), [], COST, GUARD, folder=tmp_path)
    watch.begin()
    run(watch, module, 7)
    assert sorted(path.name[5:14] for path in tmp_path.iterdir()) == ["000000001", "000000006", "000000007"]


def test_a_run_is_begun_and_measured_now_and_then():
    watch = Watch(Scale(), cliff, [], COST, GUARD)
    with pytest.raises(FailedPrecondition) as error:
        watch(0)
    assert error.value.reason == Reason.RUN_NOT_BEGUN
    with pytest.raises(InvalidArgument):
        Watch(Scale(), cliff, [], COST, GUARD, every=0)


class Rise:
    def loss(self, module, step):
        return -module.weight.sum()


def test_the_training_loop_stops_where_the_watch_says():
    module = Scale()
    watch = Watch(module, cliff, [PrivacyMatch(0.5, 0.02)], COST, GUARD)
    assert isinstance(watch, Stateful)
    watch.begin()
    history = train(module, Rise(), Recipe(steps=50, learning_rate=1.0), progress=NullProgress(), probe=watch)
    assert history.stopped == "probe"
    assert history.steps == 4
    choice = watch.finish()
    assert abs(choice.measurement["auc"] - 0.5) <= 0.02
    assert module.weight.item() == pytest.approx(choice.measurement.step, abs=1e-3)
