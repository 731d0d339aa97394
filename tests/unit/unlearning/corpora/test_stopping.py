"""Automatic stopping in the laboratory: what is asked of a result, and that a setting is carried out once."""

import pytest
import torch

from services.unlearning.corpora import ModelShape, Sizes
from tests.benchmarks.figures import Figures
from tests.benchmarks.unlearning import lab as lab_module
from tests.benchmarks.unlearning import removing, stopping
from tests.benchmarks.unlearning.distance import Distance, Known
from tests.benchmarks.unlearning.lab import Lab, Schedule
from tests.benchmarks.unlearning.methods import Method
from tests.benchmarks.unlearning.scoring import Measured
from tests.benchmarks.unlearning.stopping import Trial

SHAPE = ModelShape(hidden=32, layers=1, heads=2, inner=64, vocabulary=512, positions=512)
SIZES = Sizes(forget=8, retain1=4, retain2=4, holdout=8, icl=2, folds=2)
SETTING = Method("GA+GDR", "ga_gdr", learning_rate=1e-3, epochs=1)
ROUNDS = Method("CIR", "cir", {"components": 2, "step": 0.01, "rounds": 2})


@pytest.fixture
def labs(tmp_path, monkeypatch):
    monkeypatch.setattr(lab_module, "PRETRAINING", Schedule(1, 3e-3, "cosine", batch=256))
    monkeypatch.setattr(lab_module, "FINE_TUNING", Schedule(1, 1e-3))
    for name, value in {"RETRAINED": 2, "LOOK": 2, "WATCHED": 1, "SETTINGS": (SETTING,)}.items():
        monkeypatch.setattr(stopping, name, value)
    return [Lab(seed, "news", SIZES, SHAPE, 12, tmp_path) for seed in (1, 2)]


def measured(verbmem, knowmem, privleak, utility):
    return Measured(verbmem, knowmem, privleak, utility, 0.5)


KNOWN = Known(
    (measured(25, 4, 0, 100), measured(27, 8, -8, 98)), {"verbmem": 3.0, "knowmem": 4.0, "utility": 2.0}
)
TARGET = measured(95, 97, -100, 96)


def test_everything_asked_holds_at_one():
    found = Distance.of(measured(28, 3, -8, 90), KNOWN, TARGET)
    assert found == Distance(pytest.approx(2 / 3), pytest.approx(0.75), 0.9375, 0.0)
    assert found.worst == pytest.approx(0.75)
    assert Distance.of(measured(20, 6, -4, 96), KNOWN, TARGET).worst == 2.0
    assert Distance.of(measured(26, 6, 5, 96), KNOWN, TARGET).privleak == 5.0
    assert Distance.of(measured(26, 6, -18, 96), KNOWN, TARGET).worst == 2.0
    assert Distance.of(measured(26, 6, -4, 48), KNOWN, TARGET).worst == pytest.approx(5.0)


@pytest.mark.parametrize("method", [SETTING, ROUNDS], ids=lambda each: each.name)
def test_a_setting_is_carried_out_once_and_removal_does_not_see_what_is_watched(labs, monkeypatch, method):
    seen = []

    def unlearn(module, name, data, recipe, of=removing.unlearn, **more):
        seen.append({example.name for example in data.retain})
        return of(module, name, data, recipe, **more)

    monkeypatch.setattr(removing, "unlearn", unlearn)
    trial = Trial(labs[0])
    found, facts = trial.kept(method)
    assert trial.kept(method) == (found, facts)
    watched = labs[0].corpus.split("retain1")[0].id
    [names] = seen
    assert watched not in names
    assert len(names) == 3 + 3 * 3
    assert {"verbmem", "knowmem", "utility"} <= set(facts["values"])


def test_the_setting_is_chosen_on_the_first_seed_and_gated_on_the_others(labs):
    figures = Figures("unlearning")
    stopping.stopping(labs, figures)
    assert [gate["asked"] for gate in figures.gates] == ["<= 1", "<= 1", ">= 0.9", "<= 0"]
    assert figures.figures["stopping: chosen on the first seed"] == "GA+GDR"
    assert any(name.startswith("stopping: seed 2: GA+GDR") for name in figures.figures)
    second = Trial(labs[1])
    distance = Distance.of(second.kept(SETTING)[0], second.known, second.target)
    assert figures.gates[1]["got"] == pytest.approx(distance.knowmem, abs=1e-3)


def test_retraining_begins_without_the_data_and_is_given_what_the_target_says(labs, monkeypatch):
    again, given = Method("again", "retrain", {}, 1e-3, 1, replay=4), []

    def replayed(module, retain, forget, *more, of=removing.replayed, **options):
        found = of(module, retain, forget, *more, **options)
        target = labs[0].load(labs[0].target).module
        pairs = zip(module.parameters(), target.parameters(), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
        given.append(({each.name for each in retain}, len(found)))
        return found

    monkeypatch.setattr(removing, "replayed", replayed)
    monkeypatch.setattr(removing, "DRAWS", 64)
    trial = Trial(labs[0])
    _, facts = trial.kept(again)
    [(names, said)] = given
    watched = {
        each.id for each in labs[0].corpus.trained("retain1") if each.doc_id in trial.watched_documents
    }
    assert watched
    assert not names & watched
    assert said <= 4
    assert "steps used up" in facts["why"] or "utility_match" in facts["why"]
