"""The laboratory of the benchmark: models that are kept, and how courses of removal are read."""

import math

import numpy as np
import pytest
import torch

from services.unlearning.corpora import ModelShape, Sizes
from tests.benchmarks.unlearning import lab as lab_module
from tests.benchmarks.unlearning.lab import Lab, Schedule
from tests.benchmarks.unlearning.methods import METHODS, Course, Method
from tests.benchmarks.unlearning.removing import BATCH, Remover
from tests.benchmarks.unlearning.scoring import Measured, Scorer
from tests.benchmarks.unlearning.spread import spread_of

SHAPE = ModelShape(hidden=32, layers=1, heads=2, inner=64, vocabulary=512, positions=512)
SIZES = Sizes(forget=8, retain1=4, retain2=4, holdout=8, icl=2, folds=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def lab(folder, monkeypatch):
    monkeypatch.setattr(lab_module, "PRETRAINING", Schedule(1, 3e-3, "cosine", batch=256))
    monkeypatch.setattr(lab_module, "FINE_TUNING", Schedule(1, 1e-3))
    return Lab(1, "news", SIZES, SHAPE, 12, folder)


def test_models_are_trained_once_and_kept_under_what_made_them(lab, folder, monkeypatch):
    target = lab.target
    assert set(lab.spent) == {"base", "target"}
    again = Lab(1, "news", SIZES, SHAPE, 12, folder)
    assert again.target == target
    assert not again.spent
    assert Lab(2, "news", SIZES, SHAPE, 12, folder).base == lab.base
    monkeypatch.setattr(lab_module, "FINE_TUNING", Schedule(2, 1e-3))
    assert Lab(1, "news", SIZES, SHAPE, 12, folder).target != target


def test_the_target_has_read_what_the_retrained_model_has_not(lab):
    def names(*splits):
        return {example.name for example in lab.examples(*splits)}

    forget = names("forget")
    assert len(forget) == 8 + 3 * 8
    assert not forget & names("retain1", "retain2")
    assert names("forget", "retain1", "retain2") == forget | names("retain1", "retain2")
    assert not any(name.startswith(("holdout", "icl")) for name in names("forget", "retain1", "retain2"))
    for example in lab.examples("forget"):
        assert example.ids[-1] == lab.tokenizer.eos_token_id
        assert example.counted == (False, *(True,) * (len(example.ids) - 1))


def test_every_method_changes_the_target_and_leaves_the_kept_one_alone(lab):
    remover = Remover(lab, Scorer(lab))
    before = [weight.clone() for weight in remover.target.parameters()]
    walked = Method("task vector", "tv", {"alpha": -1.0}, epochs=1, strengths=(1.0,))
    for method in (Method("GA", "ga", epochs=1), walked):
        course = remover.course(method)
        assert course.at == (0.0, 1.0)
        assert course.measured[0].auc != course.measured[1].auc
    assert len(remover.growing(Method("GA", "ga"), 1)) == 1
    assert len(remover.sequence(Method("GA", "ga"), 1)) == 2
    assert all(torch.equal(a, b) for a, b in zip(before, remover.target.parameters(), strict=True))
    assert BATCH == 8


def measured(knowmem, utility):
    return Measured(0.0, knowmem, 0.0, utility, 0.5)


def test_utility_is_read_where_knowledge_crosses_a_level():
    points = (measured(100, 90), measured(60, 80), measured(40, 50), measured(0, 10))
    course = Course((0, 1, 2, 3), points, 0.0)
    assert course.matched(50) == pytest.approx(65)
    assert course.matched(40) == pytest.approx(50)
    assert math.isnan(course.matched(-1))
    assert course.stopped(measured(45, 90)) == 2
    assert course.stopped(measured(-1, 90)) == 3


def test_a_course_is_run_once_and_kept_under_what_made_it(lab, monkeypatch):
    method = Method("GA", "ga", epochs=1)
    course = Remover(lab, Scorer(lab)).kept_course(method)
    with monkeypatch.context() as patched:
        patched.setattr(Remover, "course", None)
        assert Remover(lab, Scorer(lab)).kept_course(method) == course
    other = Remover(lab, Scorer(lab), seed=2).kept_course(method)
    assert other.measured[0] == course.measured[0]
    assert other.measured[1] != course.measured[1]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_of_the_table_changes_what_the_model_says(lab, method):
    remover = Remover(lab, Scorer(lab))
    forget = [each for each in lab.examples("forget") if each.name in remover.prompts][:8]
    ids = torch.tensor([forget[0].ids])
    after = remover.removed(method, method.strengths[-1] if method.strengths else 1, None, forget)
    with torch.no_grad():
        assert not torch.equal(after(input_ids=ids).logits, remover.target(input_ids=ids).logits)


def test_the_spread_of_a_nested_design():
    rng = np.random.default_rng(0)
    training = rng.normal(0, 3, (4000, 1))
    found = spread_of(50 + training + rng.normal(0, 1, (4000, 2)), np.full((4000, 2), 2.0))
    assert (found.mean, found.training, found.removal, found.items) == pytest.approx((50, 3, 1, 2), rel=0.03)
    still = spread_of([[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]])
    assert (still.mean, still.training, still.removal, still.items) == (1, 0, 0, 0)
