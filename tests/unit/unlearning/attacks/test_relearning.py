"""Relearning: what was hidden comes back, what was never known does not, and the weights are restored."""

import pytest
import torch

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.training.recipe import LoraSettings, Recipe
from services.unlearning.attacks import Metric, attack_model, held_out, part_of, relearning, table
from services.unlearning.attacks.relearning import relearned
from tests.unit.unlearning import knowing

EM = Metric("em", threshold=10.0)
NAMES = {"em": [example.name for example in knowing.FORGET]}
FEW_STEPS = Recipe(steps=4, learning_rate=1e-3, batch=8)
RECIPE = Recipe(steps=60, learning_rate=1e-3, batch=8, clip=0.0)


@pytest.fixture(scope="module")
def attacks():
    part = part_of(knowing.FORGET, 0.25)
    return [
        relearning("relearn/retain", knowing.RETAIN, RECIPE, pad=0),
        relearning("relearn/part", part, RECIPE, pad=0, measured=held_out(part, NAMES), allowed=10.0),
    ]


def test_what_was_hidden_comes_back_and_what_was_never_known_does_not(target, retrained, never_knew, attacks):
    hidden = knowing.hidden(target)
    assert knowing.recited(target, knowing.FORGET).mean() > 95
    assert knowing.recited(hidden, knowing.FORGET).mean() < 20
    models = (hidden, knowing.hidden(retrained), never_knew)
    found = [attack_model(module, knowing.scores, attacks) for module in models]
    rows = {row.attack: row for row in table(attacks, [EM], found[0], [found[1]], found[2])}
    for row in rows.values():
        assert row.recovered, row
        assert row.tolerated is False
        assert row.net.low > 10
        assert max(row.retrained) < 10

    rows = {row.attack: row for row in table(attacks, [EM], found[1], [found[2]], found[2])}
    for row in rows.values():
        assert not row.recovered, row
        assert row.tolerated


def test_the_part_that_was_relearned_is_not_measured(attacks):
    part = part_of(knowing.FORGET, 0.25)
    assert len(part) == 2
    assert attacks[1].measured == {
        "em": [n for n, example in enumerate(knowing.FORGET) if example not in part]
    }
    assert part_of(list(reversed(knowing.FORGET)), 0.25)[::-1] == part  # of the names, not of their order


def test_a_document_is_relearned_whole_and_never_all_of_them():
    twice = knowing.FORGET[:2] + knowing.FORGET[:2]
    for share in (0.0, 0.5, 1.0):
        part = part_of(twice, share)
        assert len(part) == 2
        assert part[0].name == part[1].name
    with pytest.raises(InvalidArgument):
        part_of(knowing.FORGET[:1], 0.5)


def test_weights_and_what_trains_are_restored(target):
    target.requires_grad_(False)
    before = [p.detach().clone() for p in target.parameters()]
    with relearned(target, knowing.RETAIN, FEW_STEPS, 0) as module:
        assert not any(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))
        first = [p.detach().clone() for p in module.parameters()]
    assert all(torch.equal(p, q) for p, q in zip(target.parameters(), before, strict=True))
    assert not any(p.requires_grad or p.grad is not None for p in target.parameters())
    with relearned(target, knowing.RETAIN, FEW_STEPS, 0) as module:
        assert all(torch.equal(p, q) for p, q in zip(module.parameters(), first, strict=True))
    target.requires_grad_(True)


def test_a_model_that_breaks_is_told_and_restored():
    module = knowing.blank()
    with torch.no_grad():
        module.lm_head.weight[0, 0] = float("nan")
    before = [p.detach().clone() for p in module.parameters()]
    with pytest.raises(FailedPrecondition) as error, relearned(module, knowing.RETAIN, RECIPE, 0):
        pass
    assert error.value.reason == Reason.TRAINING_DIVERGED
    for p, q in zip(module.parameters(), before, strict=True):
        assert torch.equal(p.nan_to_num(7.0), q.nan_to_num(7.0))


def test_an_adapter_would_stay_in_the_model():
    adapted = Recipe(steps=1, adapter=LoraSettings(rank=2))
    for examples, recipe in (([], RECIPE), (knowing.RETAIN, adapted)):
        with pytest.raises(InvalidArgument) as error:
            relearning("relearn", examples, recipe, pad=0)
        assert error.value.reason == Reason.ATTACK_INVALID
