"""Gradient ascent past the cliff, watched: it ends, and goes back to where membership is the reference's."""

import copy

import torch

from palimpsest.progress import NullProgress
from palimpsest.training.cross_entropy import CrossEntropy
from palimpsest.training.loop import train
from palimpsest.training.recipe import Recipe
from services.unlearning.stopping import Bound, DivergenceGuard, PrivacyMatch, Probe, Scalarisation, Watch
from tests.unit.unlearning import knowing


class Ascent:
    """Raises the loss on the forget set and lowers that on the retain set."""

    def __init__(self, recipe: Recipe):
        self.forget = CrossEntropy(knowing.FORGET, recipe, pad=0)
        self.retain = CrossEntropy(knowing.RETAIN, recipe, pad=0)

    def loss(self, module, step):
        return 5.0 * self.retain.loss(module, step) - self.forget.loss(module, step)


def test_membership_is_brought_to_the_references_between_two_probes(target, retrained):
    module = copy.deepcopy(target)
    recipe = Recipe(steps=60, learning_rate=2e-3, batch=8, clip=0.0)
    probe = Probe(knowing.FORGET, knowing.HOLDOUT, knowing.RETAIN, pad=0)
    reference = probe.measure(retrained, 0)
    watch = Watch(
        module,
        probe.measure,
        [PrivacyMatch(reference["auc"], 0.05)],
        Scalarisation(
            (Bound("forget_em", reference["forget_em"], 20.0),), auc=reference["auc"], utility=90.0
        ),
        DivergenceGuard(knowing.VOCABULARY, margin=20.0),
        every=10,
    )
    watch.begin()
    history = train(module, Ascent(recipe), recipe, progress=NullProgress(), probe=watch)
    choice = watch.finish()
    assert history.stopped == "probe"
    assert choice.decision is not None
    assert choice.decision.outcome == "crossed"
    assert choice.last["auc"] > reference["auc"] + 0.05
    assert abs(choice.measurement["auc"] - reference["auc"]) <= 0.05
    assert choice.measurement["utility"] >= 90.0
    again = probe.measure(module, choice.measurement.step)
    assert again == choice.measurement
    assert any(not torch.equal(p, q) for p, q in zip(module.parameters(), target.parameters(), strict=True))
