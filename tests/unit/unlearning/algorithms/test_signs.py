"""One small step of each algorithm, on a model that knows both sets by heart, goes the way it should."""

import copy
import dataclasses

import pytest
import torch

from palimpsest.training.batches import collate
from services.unlearning.algorithms import build
from services.unlearning.algorithms.reference import frozen_copy
from services.unlearning.algorithms.repselect import RepSelectParameters, selective_directions, walk
from services.unlearning.algorithms.task_vector import TaskVectorParameters, subtract
from tests.unit.unlearning.algorithms.conftest import FORGET, RETAIN, mean, tiny

ONLY_FORGETS = {"regulariser": "none"}
FORGETS = [
    ("ga", {}),
    ("npo", {}),
    ("npo", {"length_norm": "token"}),
    ("simnpo", ONLY_FORGETS),
    ("dpo", ONLY_FORGETS),
    ("idk", ONLY_FORGETS),
    ("flat", {"divergence": "tv"}),
    ("flat", {"divergence": "kl"}),
    ("flat", {"divergence": "pearson"}),
    ("undial", {}),
    ("wga", ONLY_FORGETS),
    ("satimp", ONLY_FORGETS),
    ("npo_sam", ONLY_FORGETS),
]


@pytest.fixture
def known(inputs, memorised):
    return dataclasses.replace(inputs, module=memorised, reference=memorised, batch=8)


def nll(module, examples):
    with torch.no_grad():
        return mean(module, collate(examples, range(len(examples)), 0)).item()


def stepped(module, objective, length=1e-3):
    """The module after a step of a given length against the gradient."""
    moved = copy.deepcopy(module).requires_grad_(True)
    objective.loss(moved, 0).backward()
    gradients = [w.grad for w in moved.parameters() if w.grad is not None]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    assert norm > 0
    with torch.no_grad():
        for weight in moved.parameters():
            if weight.grad is not None:
                weight.sub_(length / norm * weight.grad)
    return moved


@pytest.mark.parametrize(("name", "values"), FORGETS)
def test_a_step_raises_the_loss_on_the_forget_set(name, values, known):
    moved = stepped(known.module, build(name, values, known))
    assert nll(moved, FORGET) > nll(known.module, FORGET)


def test_a_step_towards_one_who_never_knew_raises_the_loss_on_the_forget_set(known):
    taught = dataclasses.replace(known, reference=frozen_copy(tiny()))
    moved = stepped(known.module, build("bad_teaching", ONLY_FORGETS, taught))
    assert nll(moved, FORGET) > nll(known.module, FORGET)


def test_steering_hidden_states_raises_the_loss_in_a_few_steps(known):
    """RMU's loss says nothing of likelihoods, so that its first step need not."""
    objective, moved = build("rmu", {"alpha": 0}, known), known.module
    for _ in range(10):
        moved = stepped(moved, objective, 0.1)
    assert nll(moved, FORGET) > 2 * nll(known.module, FORGET)


def test_a_step_of_the_regulariser_lowers_the_loss_on_the_retain_set(known):
    objective = build("ga_gdr", {"gamma": 0}, known)
    assert nll(stepped(known.module, objective), RETAIN) < nll(known.module, RETAIN)


def test_retraining_lowers_the_loss_on_the_retain_set(known):
    assert nll(stepped(known.module, build("retrain", {}, known)), RETAIN) < nll(known.module, RETAIN)


def test_the_divergence_holds_the_model_where_it_is(known):
    """With the retain term, the retain set suffers less from the same length of step."""
    without = stepped(known.module, build("ga", {}, known), 0.05)
    further = copy.deepcopy(without)
    objective = build("ga_klr", {"gamma": 0}, known)
    assert nll(stepped(further, objective), RETAIN) < nll(without, RETAIN)


def test_a_task_vector_forgets_what_was_reinforced(known):
    reinforced = stepped(known.module, build("tv", {}, known), 0.02)
    moved = copy.deepcopy(known.module)
    subtract(moved, reinforced, TaskVectorParameters(alpha=1.0))
    assert nll(reinforced, FORGET) < nll(known.module, FORGET) < nll(moved, FORGET)


@pytest.mark.parametrize("collapse", ["none", "soft", "hard"])
def test_a_selective_walk_forgets(collapse, known):
    moved = copy.deepcopy(known.module)
    parameters = RepSelectParameters(components=4, collapse=collapse)
    directions = selective_directions(parameters, known)
    length = torch.stack([each.norm() for each in directions.values()]).norm().item()
    walk(moved, directions, 1e-3 / length)
    assert nll(moved, FORGET) > nll(known.module, FORGET)
