"""Bands about references: when everything is within them, what comes nearest, and removal and repair in turns."""

import math

import pytest
import torch
from torch import nn

from palimpsest.errors import InvalidArgument
from services.unlearning.stopping import (
    Band,
    BandMatch,
    Bands,
    DivergenceGuard,
    KnownAgain,
    Measurement,
    Nearest,
    Rounds,
)
from services.unlearning.stopping.rules import Target

KNOWN = Band("knowmem", 2.0, 10.0, 4.0)
PRIVACY = Band("auc", 0.42, 0.5, 0.04)
KEPT = Band("utility", least=90.0, unit=10.0)
GUARD = DivergenceGuard(vocabulary=100)


def at(step, auc, knowmem=6.0, utility=95.0):
    return Measurement(step, {"auc": auc, "knowmem": knowmem, "utility": utility})


def test_a_miss_is_in_units_of_the_band():
    assert [KNOWN.miss(at(0, 0.5, value)) for value in (2, 6, 10, 14, 0)] == [0, 0, 0, 1, 0.5]
    assert [KEPT.miss(at(0, 0.5, utility=value)) for value in (100, 90, 70)] == [0, 0, 2]
    assert KNOWN.miss(at(0, 0.5, math.nan)) == math.inf


@pytest.mark.parametrize(("least", "most", "unit"), [(2.0, 1.0, 1.0), (0.0, 1.0, 0.0), (0.0, math.nan, 1.0)])
def test_a_band_has_its_ends_in_order(least, most, unit):
    with pytest.raises(InvalidArgument, match="knowmem"):
        Band("knowmem", least, most, unit)


def judged(rule, *history):
    decision = rule.judge(history)
    return decision and (decision.outcome, decision.target)


def test_everything_at_once_ends_a_run():
    rule = BandMatch((KNOWN, PRIVACY, KEPT))
    assert judged(rule, at(1, 0.45)) == ("matched", None)
    assert judged(rule, at(1, 0.45, knowmem=11)) is None
    assert judged(rule, at(1, 0.45, knowmem=1)) is None
    assert judged(rule, at(1, 0.45, utility=89)) is None
    crossed = ("crossed", Target("auc", pytest.approx(0.46), pytest.approx(0.04)))
    assert judged(rule, at(1, 0.1, knowmem=50), at(2, 0.9)) == crossed
    assert judged(rule, at(1, 0.9), at(2, 0.1)) == crossed
    assert judged(rule, at(1, 0.1), at(2, 0.9, utility=50)) is None
    assert judged(rule, at(1, 0.8), at(2, 0.9)) is None
    assert (
        judged(rule, at(1, 0.45, utility=50), at(2, 0.9)) is None
    )  # one end is in the band: no point is lost
    assert judged(rule, at(1, 0.9)) is None


def test_a_repair_ends_when_the_forget_set_is_known_again():
    rule = KnownAgain((KNOWN, PRIVACY))
    assert judged(rule, at(1, 0.8, knowmem=0)) is None
    assert judged(rule, at(1, 0.45)) is None
    assert judged(rule, at(1, 0.6, knowmem=11)) == ("floor", None)
    outcome, target = judged(rule, at(1, 0.6), at(2, 0.3))
    assert (outcome, target.metric, target.value) == ("crossed", "auc", pytest.approx(0.46))


def test_the_nearest_state_is_the_one_whose_worst_band_is_missed_by_least():
    states = [
        at(0, 0.45, knowmem=18),
        at(1, 0.54, knowmem=14),
        at(2, 0.54, knowmem=6),
        at(3, 0.54, knowmem=6),
    ]
    assert Nearest((KNOWN, PRIVACY)).best(states).step == 2
    assert Nearest((KNOWN, PRIVACY)).best(states, broken=[2, 3]).step == 1
    assert Nearest((KNOWN, PRIVACY)).best(states, broken=[0, 1, 2, 3]).step == 2
    assert Nearest((KNOWN,), before_all=(PRIVACY,)).best(states).step == 0


class Memory(nn.Module):
    """What a model knows of the forget set and of the rest, as two weights."""

    def __init__(self):
        super().__init__()
        self.forget = nn.Parameter(torch.tensor(100.0))
        self.rest = nn.Parameter(torch.tensor(100.0))


def measure(module, step):
    """An AUC that rises to 1 below nothing, as over-unlearning does."""
    known = module.forget.item()
    return at(step, 1 / (1 + math.exp(known / 4)), max(0.0, known), module.rest.item())


def trains(module, forget, rest):
    def turn(watch):
        for step in range(30):
            with torch.no_grad():
                module.forget += forget
                module.rest += rest
            if watch(step):
                return

    return turn


def test_removal_and_repair_in_turns_reach_what_neither_does():
    module = Memory()
    bands = Bands((Band("knowmem", 0.0, 5.0, 5.0),), Band("auc", 0.4, 0.55, 0.1), (KEPT,), past=0.45)
    turns = Rounds(module, measure, bands, GUARD).run(trains(module, -9.0, -2.0), trains(module, 2.0, 4.0))
    assert [turn.decision.rule for turn in turns] == ["band_match", "band_match"]
    removed, repaired = (turn.measurement for turn in turns)
    assert removed["auc"] > 0.9
    assert removed["utility"] < 80
    assert all(band.miss(repaired) == 0 for band in bands.all)
    assert measure(module, repaired.step) == repaired


def test_turns_end_with_the_best_state_of_all():
    module = Memory()
    bands = Bands((Band("knowmem", 0.0, 5.0, 5.0),), Band("auc", 0.4, 0.55, 0.1), (KEPT,))
    turns = Rounds(module, measure, bands, GUARD, most=2).run(
        trains(module, -9.0, -9.0), trains(module, 9.0, 1.0)
    )
    assert len(turns) == 4
    assert {turn.decision.rule for turn in turns[1::2]} == {"known_again"}
    best = min((turn.measurement for turn in turns), key=lambda each: Nearest(bands.all).key(each)[:3])
    assert measure(module, best.step) == best


def test_broken_models_end_the_turns():
    module = Memory()
    bands = Bands((Band("knowmem", 0.0, 5.0, 5.0),), Band("auc", 0.4, 0.55, 0.1), (KEPT,))
    turns = Rounds(module, measure, bands, GUARD).run(trains(module, math.nan, 0.0), trains(module, 0.0, 0.0))
    assert [turn.decision.outcome for turn in turns] == ["diverged"]
    assert module.forget.item() == 100.0
    with pytest.raises(InvalidArgument, match="one round"):
        Rounds(module, measure, bands, GUARD, most=0)
