"""Whole runs of every algorithm, a few steps each, through the training loop."""

import copy
import dataclasses

import pytest
import torch

from palimpsest.errors import InvalidArgument
from palimpsest.progress import NullProgress
from palimpsest.training.adapters import is_attached
from palimpsest.training.batches import collate
from palimpsest.training.checkpoints import Checkpoints
from palimpsest.training.loop import train
from palimpsest.training.recipe import LoraSettings, Recipe
from services.unlearning.algorithms import ALGORITHMS, Inputs, build
from services.unlearning.algorithms.reference import frozen_copy
from services.unlearning.algorithms.task_vector import TaskVectorParameters, moved
from services.unlearning.runs import Data, unlearn
from tests.unit.unlearning.algorithms.conftest import ALTERNATIVES, FORGET, RETAIN, mean, tiny

DATA = Data(FORGET, RETAIN, ALTERNATIVES)
RECIPE = Recipe(steps=4, learning_rate=1e-2, batch=2, seed=5)
CHANGES_WEIGHTS = sorted(set(ALGORITHMS) - {"whp", "shard_adapters"})


@pytest.fixture
def module():
    return tiny(seed=2).float()


def weights(module):
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def run(module, name, recipe=RECIPE, **options):
    if name == "bad_teaching":
        options.setdefault("reference", frozen_copy(tiny(seed=9).float()))
    return unlearn(module, name, DATA, recipe, progress=NullProgress(), **options)


@pytest.mark.parametrize("name", CHANGES_WEIGHTS)
def test_a_run_is_the_same_twice_and_changes_the_weights(name, module):
    before, again = weights(module), copy.deepcopy(module)
    history = run(module, name)
    run(again, name)
    assert not same(before, weights(module))
    assert same(weights(again), weights(module))
    assert all(weight.requires_grad for weight in module.parameters())
    if history is not None:
        assert history.steps == RECIPE.steps
        assert not history.diverged


@pytest.mark.parametrize("name", ["whp", "shard_adapters"])
def test_what_changes_no_weights_is_refused(name, module):
    before = weights(module)
    with pytest.raises(InvalidArgument) as caught:
        run(module, name)
    assert caught.value.reason == "ALGORITHM_NOT_TRAINED"
    assert same(before, weights(module))


def test_bad_teaching_is_refused_without_a_teacher(module):
    before = weights(module)
    with pytest.raises(InvalidArgument) as caught:
        unlearn(module, "bad_teaching", DATA, RECIPE, progress=NullProgress())
    assert caught.value.reason == "ALGORITHM_INPUT_MISSING"
    assert caught.value.violations[0].field == "reference"
    assert same(before, weights(module))


def test_ascent_forgets_and_retraining_learns(module):
    def nll(examples):
        with torch.no_grad():
            return mean(module, collate(examples, range(len(examples)), 0)).item()

    forget, retain = nll(FORGET), nll(RETAIN)
    run(module, "ga")
    assert nll(FORGET) > forget
    module = tiny(seed=2).float()
    run(module, "retrain")
    assert nll(RETAIN) < retain


def test_the_reference_is_the_model_before(module):
    """As with a frozen copy given, and not as with another model."""
    given, other = copy.deepcopy(module), copy.deepcopy(module)
    reference = frozen_copy(module)
    run(module, "npo_klr")
    run(given, "npo_klr", reference=reference)
    run(other, "npo_klr", reference=frozen_copy(tiny(seed=9).float()))
    assert same(weights(module), weights(given))
    assert not same(weights(module), weights(other))


def test_a_task_vector_is_the_reinforced_model_s_difference_backwards(module):
    before, reinforced = weights(module), copy.deepcopy(module)
    inputs = Inputs(reinforced, FORGET, batch=2, seed=5)
    train(reinforced, build("tv", {}, inputs), RECIPE, progress=NullProgress())
    parameters = TaskVectorParameters(alpha=2.0)
    want = {name: moved(before[name], weight, parameters) for name, weight in weights(reinforced).items()}
    run(module, "tv", parameters={"alpha": 2.0})
    assert same(weights(module), want)


@pytest.mark.parametrize(("alpha", "sign"), [(0.0, 0), (-1.0, -1)])
def test_the_ends_of_a_task_vector(alpha, sign, module):
    before, reinforced = weights(module), copy.deepcopy(module)
    train(
        reinforced,
        build("tv", {}, Inputs(reinforced, FORGET, batch=2, seed=5)),
        RECIPE,
        progress=NullProgress(),
    )
    run(module, "tv", parameters={"alpha": alpha})
    assert same(weights(module), weights(reinforced) if sign else before)


def test_rmu_trains_its_three_matrices_alone(module):
    before = weights(module)
    run(module, "rmu", recipe=dataclasses.replace(RECIPE, weight_decay=0.1), parameters={"layer": 1})
    changed = {name for name, weight in weights(module).items() if not torch.equal(weight, before[name])}
    assert changed == {f"model.layers.{block}.mlp.down_proj.weight" for block in range(2)}


@pytest.mark.parametrize("name", ["npo_klr", "rmu", "npo_sam", "dpo", "undo", "tv"])
def test_a_run_that_goes_on_ends_with_the_same_bits(name, module, tmp_path):
    interrupted = copy.deepcopy(module)
    run(module, name)

    class Stops(NullProgress):
        def step(self, done, total, stage=""):
            if done == 3:
                raise KeyboardInterrupt

    start = copy.deepcopy(interrupted)
    checkpoints = Checkpoints(tmp_path / "state", every=2)
    with pytest.raises(KeyboardInterrupt):
        unlearn(interrupted, name, DATA, RECIPE, progress=Stops(), checkpoints=checkpoints)
    run(start, name, checkpoints=checkpoints)
    assert same(weights(start), weights(module))


def test_a_probe_ends_a_run(module):
    steps = []
    history = run(module, "ga", probe=lambda step: steps.append(step) or step == 1)
    assert steps == [0, 1]
    assert history is not None
    assert history.stopped == "probe"


@pytest.mark.parametrize("name", ["npo_klr", "undial", "rmu"])
def test_a_run_with_an_adapter_leaves_the_weights(name, module):
    before = weights(module)
    recipe = dataclasses.replace(RECIPE, adapter=LoraSettings(rank=2))
    run(module, name, recipe=recipe)
    assert is_attached(module)
    after = {n.replace(".base_layer", ""): w for n, w in weights(module).items()}
    assert all(torch.equal(after[n], before[n]) for n in before)
    assert any(w.abs().max() > 0 for n, w in after.items() if "lora_B" in n)


def test_a_task_vector_with_an_adapter_is_merged(module):
    before = weights(module)
    run(module, "tv", recipe=dataclasses.replace(RECIPE, adapter=LoraSettings(rank=2)))
    assert not is_attached(module)
    after = weights(module)
    assert after.keys() == before.keys()
    assert torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert not torch.equal(
        after["model.layers.0.mlp.up_proj.weight"], before["model.layers.0.mlp.up_proj.weight"]
    )


def test_a_batch_in_parts_is_refused(module):
    with pytest.raises(InvalidArgument) as caught:
        run(module, "ga", recipe=dataclasses.replace(RECIPE, micro_batch=1))
    assert caught.value.violations[0].field == "micro_batch"


def test_data_that_is_missing_is_named(module):
    before = weights(module)
    with pytest.raises(InvalidArgument) as caught:
        unlearn(module, "ga_gdr", Data(FORGET), RECIPE, progress=NullProgress())
    assert caught.value.violations[0].field == "retain"
    assert same(before, weights(module))
