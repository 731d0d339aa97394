"""The benchmark's attacks on models of the laboratory: what is kept, what is measured, and the constructed case."""

import copy

import numpy as np
import pytest
import torch

from services.unlearning.attacks.quantisation import quantised, round_to_nearest
from services.unlearning.attacks.relearning import relearned
from services.unlearning.corpora import ModelShape, Sizes
from tests.benchmarks.unlearning import attacked
from tests.benchmarks.unlearning import lab as lab_module
from tests.benchmarks.unlearning.attacked import Victims
from tests.benchmarks.unlearning.lab import Lab, Schedule
from tests.benchmarks.unlearning.unlearned import BATCH, Removal, within_half_a_step

SHAPE = ModelShape(hidden=32, layers=1, heads=2, inner=64, vocabulary=512, positions=512)
SIZES = Sizes(forget=8, retain1=4, retain2=4, holdout=8, icl=2, folds=2)
GA = Removal("GA", "ga", most=1, stops=False)


@pytest.fixture(scope="module")
def victims(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_module, "PRETRAINING", Schedule(1, 3e-3, "cosine", batch=256))
        patch.setattr(lab_module, "FINE_TUNING", Schedule(1, 1e-3))
        patch.setattr(attacked, "RELEARN_STEPS", (2, 4))
        lab = Lab(1, "news", SIZES, SHAPE, 12, tmp_path_factory.mktemp("models"))
        yield Victims(lab, [GA])


def test_an_unlearned_model_is_kept(victims):
    path = victims.path("GA")
    changed = path.stat().st_mtime_ns
    again = Victims(victims.lab, [GA])
    assert again.path("GA") == path
    assert path.stat().st_mtime_ns == changed
    before, after = (dict(victims.module(name).named_parameters()) for name in ("target", "GA"))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert Victims(victims.lab, [Removal("GA", "ga", most=2, stops=False)]).path("GA") != path


def test_relearning_measured_on_the_way_is_that_of_a_run_of_so_many_steps(victims):
    examples, _ = victims.relearning["relearn/retain"]
    recipe = attacked.Recipe(
        steps=2, learning_rate=attacked.ATTACK_RATE, batch=BATCH, seed=victims.seed, threads=1
    )
    with relearned(victims.module("GA"), examples, recipe, victims.pad) as module:
        expected = victims.scores(module)
    found = victims.relearned("GA", "relearn/retain")
    assert set(found) == {2, 4}
    assert all(np.array_equal(found[2].after[metric], expected[metric]) for metric in expected)


def test_what_a_part_teaches_is_not_measured(victims):
    examples, left = victims.relearning["relearn/part"]
    corpus = victims.lab.corpus
    documents = {each.doc_id for each in corpus.trained("forget")} & {example.name for example in examples}
    assert len(documents) == 1  # a tenth of eight, at least one
    asked = [victims.asked[place] for place in left["knowmem"]]
    assert asked
    assert not documents & {each.doc_id for each in asked}
    assert not {example.name for example in examples} & {each.id for each in asked}
    recited = [victims.document[victims.prompts[place].id] for place in left["verbmem"]]
    assert not documents & set(recited)
    assert len(recited) >= 4


def test_the_constructed_case_is_quantised_to_the_same_weights(victims):
    target = victims.module("target")
    moved = within_half_a_step(target, victims.forget, steps=3)
    start, end = dict(target.named_parameters()), dict(moved.named_parameters())
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed == {name for name in start if "_proj" in name}
    scheme = round_to_nearest(4, 32)
    with quantised(moved, scheme), quantised(copy.deepcopy(target), scheme) as same:
        assert all(torch.equal(p, q) for p, q in zip(moved.parameters(), same.parameters(), strict=True))
