"""The loop: what a plain loop of torch's does, its curves, its ends, and what stops it."""

import math

import pytest
import torch

from palimpsest.errors import Cancelled, InvalidArgument, Reason
from palimpsest.progress import NullProgress
from palimpsest.training import LoraSettings, Recipe, collate, train
from palimpsest.training.cross_entropy import CrossEntropy, mean_nll

RECIPE = Recipe(
    steps=7,
    learning_rate=3e-3,
    batch=4,
    seed=5,
    weight_decay=0.1,
    clip=0.5,
    schedule="cosine",
    warmup_steps=2,
)


class Heard(NullProgress):
    """Progress that writes down what it is told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def step(self, done, total, stage=""):
        self.told.append((done, total, stage))


def weights(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def plain_loop(module, examples, recipe):
    """AdamW as the library's users write it, on the loss that transformers computes from labels."""
    matrices = [p for p in module.parameters() if p.dim() > 1]
    others = [p for p in module.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.epsilon)
    warm = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            (step + 1) / 2 if step < 2 else 0.5 * (1 + math.cos(math.pi * (step - 2) / (recipe.steps - 2)))
        ),
    )
    order, losses = CrossEntropy(examples, recipe, 0).order, []
    for step in range(recipe.steps):
        batch = collate(examples, order.at(step), 0)
        labels = batch.ids.masked_fill(~batch.counted, -100)
        loss = module(input_ids=batch.ids, attention_mask=batch.attention, labels=labels).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), recipe.clip)
        optimizer.step()
        warm.step()
    return losses


def test_it_does_what_a_plain_loop_does(make_model, examples):
    one, other = make_model(torch.float64), make_model(torch.float64)
    expected = plain_loop(one, examples, RECIPE)
    history = train(other, CrossEntropy(examples, RECIPE, 0), RECIPE, progress=NullProgress())
    assert history.losses == pytest.approx(expected, rel=1e-6), "transformers' own loss is float32"
    assert history.effective_batch == 4
    # clip_grad_norm_ divides by the norm and a millionth more
    for name, weight in weights(one).items():
        torch.testing.assert_close(weights(other)[name], weight, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_smaller_passes_change_nothing_but_rounding(make_model, examples, micro_batch):
    one, other = make_model(torch.float64), make_model(torch.float64)
    history = train(one, CrossEntropy(examples, RECIPE, 0), RECIPE, progress=NullProgress())
    split = Recipe.of({**RECIPE.facts(), "micro_batch": micro_batch})
    parted = train(other, CrossEntropy(examples, split, 0), split, progress=NullProgress())
    assert parted.losses == pytest.approx(history.losses, rel=1e-9)
    assert parted.effective_batch == 4
    for name, weight in weights(one).items():
        torch.testing.assert_close(weights(other)[name], weight, rtol=1e-6, atol=1e-9, msg=name)


def test_a_batch_that_is_larger_than_the_set_is_the_set(make_model, examples):
    one, other = make_model(), make_model()
    wide, whole = (Recipe.of({**RECIPE.facts(), "batch": batch}) for batch in (99, len(examples)))
    history = train(one, CrossEntropy(examples, wide, 0), wide, progress=NullProgress())
    train(other, CrossEntropy(examples, whole, 0), whole, progress=NullProgress())
    assert history.effective_batch == len(examples), "what a step has, not what was asked for"
    assert same(weights(one), weights(other))


def test_an_objective_may_give_its_loss_at_once(make_model, examples):
    class Whole:
        def __init__(self):
            self.inner = CrossEntropy(examples, RECIPE, 0)

        def loss(self, module, step):
            return self.inner.loss(module, step)

    one, other = make_model(), make_model()
    train(one, CrossEntropy(examples, RECIPE, 0), RECIPE, progress=NullProgress())
    train(other, Whole(), RECIPE, progress=NullProgress())
    assert same(weights(one), weights(other))


def test_the_seed_decides(make_model, examples):
    runs = []
    for seed in (5, 5, 6):
        module, recipe = make_model(), Recipe.of({**RECIPE.facts(), "seed": seed})
        train(module, CrossEntropy(examples, recipe, 0), recipe, progress=NullProgress())
        runs.append(weights(module))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_random_numbers_follow_from_seed_and_step_and_are_given_back(make_model):
    drawn = []

    class Noisy:
        def loss(self, module, step):
            drawn.append(torch.rand(2).tolist())
            return next(iter(module.parameters())).sum()

    for _ in range(2):
        module = make_model()
        before = torch.get_rng_state()
        train(module, Noisy(), Recipe(steps=3, seed=9), progress=NullProgress())
        assert torch.equal(torch.get_rng_state(), before)
    assert drawn[:3] == drawn[3:]
    assert len({tuple(each) for each in drawn}) == 3


def test_threads_are_set_and_given_back(make_model, examples):
    seen = []

    class Counting(CrossEntropy):
        def parts(self, module, step):
            seen.append(torch.get_num_threads())
            return super().parts(module, step)

    recipe = Recipe(steps=1, threads=2)
    train(make_model(), Counting(examples, recipe, 0), recipe, progress=NullProgress())
    assert seen == [2]
    assert torch.get_num_threads() == 1


def test_every_step_is_told_with_its_loss(make_model, examples):
    progress = Heard()
    history = train(make_model(), CrossEntropy(examples, RECIPE, 0), RECIPE, progress=progress)
    assert [done for done, _, _ in progress.told] == list(range(8))
    assert progress.told[3][2] == f"training, loss {history.losses[2]:.4g}"


def test_it_stops_between_two_steps(make_model, examples):
    class Stopping(Heard):
        def step(self, done, total, stage=""):
            super().step(done, total, stage)
            if done == 3:
                raise Cancelled(Reason.JOB_CANCELLED, "stop")

    progress, module, other = Stopping(), make_model(), make_model()
    with pytest.raises(Cancelled):
        train(module, CrossEntropy(examples, RECIPE, 0), RECIPE, progress=progress)
    assert progress.told[-1][0] == 3
    train(
        other,
        CrossEntropy(examples, RECIPE, 0),
        RECIPE,
        progress=NullProgress(),
        probe=lambda step: step == 2,
    )
    assert same(weights(module), weights(other))


def test_a_probe_sees_each_step_and_ends_the_run(make_model, examples):
    seen = []
    history = train(
        make_model(),
        CrossEntropy(examples, RECIPE, 0),
        RECIPE,
        progress=NullProgress(),
        probe=lambda step: bool(seen.append(step)) or step == 4,
        validation=lambda: 1.5,
    )
    assert seen == [0, 1, 2, 3, 4]
    assert (history.stopped, history.steps, history.validation) == ("probe", 5, [(5, 1.5)])


def test_the_validation_curve(make_model, examples):
    module, recipe = make_model(), Recipe.of({**RECIPE.facts(), "validate_every": 3})

    def validation():
        return mean_nll(module, examples[:4], 2, 0)

    before = validation()
    history = train(
        module, CrossEntropy(examples, recipe, 0), recipe, progress=NullProgress(), validation=validation
    )
    assert [step for step, _ in history.validation] == [3, 6, 7]
    assert history.validation[-1][1] == validation() != before


def test_the_mean_is_over_tokens(make_model, examples):
    module = make_model(torch.float64)
    total, tokens = 0.0, 0
    for index, example in enumerate(examples):
        batch = collate(examples, [index], 0)
        labels = batch.ids.masked_fill(~batch.counted, -100)
        count = sum(example.counted)
        with torch.no_grad():
            total += module(input_ids=batch.ids, labels=labels).loss.item() * count
        tokens += count
    assert mean_nll(module, examples, 3, 0) == pytest.approx(total / tokens, rel=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_run_that_diverges_ends_with_the_weights_before(make_model, bad):
    class Diverging:
        def loss(self, module, step):
            value = sum(p.square().sum() for p in module.parameters())
            return value * (bad if step == 2 else 1.0)

    module, other = make_model(), make_model()
    history = train(module, Diverging(), Recipe(steps=6), progress=NullProgress())
    assert (history.stopped, history.diverged, history.steps) == ("diverged", True, 3)
    train(other, Diverging(), Recipe(steps=2), progress=NullProgress())
    assert same(weights(module), weights(other))


def test_a_gradient_too_large_for_its_norm_diverges(make_model):
    """torch clips the gradient [1e30, 1e30] to zeros, as its norm is infinite, and says nothing."""

    class Steep:
        def loss(self, module, step):
            return sum(p.sum() for p in module.parameters()) * 1e30

    history = train(make_model(), Steep(), Recipe(steps=3), progress=NullProgress())
    assert history.diverged
    assert math.isfinite(history.losses[0])
    assert history.norms == [math.inf]


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    ],
)
def test_schedules(schedule, rates):
    recipe = Recipe(steps=6, learning_rate=1.0, schedule=schedule, warmup_steps=2)
    assert [recipe.rate_at(step) for step in range(6)] == pytest.approx(rates)


def test_a_recipe_survives_json(tmp_path):
    import json

    recipe = Recipe.of({**RECIPE.facts(), "adapter": {"rank": 3, "alpha": 5.0, "targets": ["q_proj"]}})
    assert recipe.adapter == LoraSettings(3, 5.0, ("q_proj",))
    assert Recipe.of(json.loads(json.dumps(recipe.facts()))) == recipe
    assert Recipe.of(json.loads(json.dumps(RECIPE.facts()))) == RECIPE


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"schedule": "stairs"}, "schedule"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"clip": float("inf")}, "clip"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"adapter": LoraSettings(rank=0)}, "adapter.rank"),
    ],
)
def test_recipes_nobody_can_follow(changes, field):
    with pytest.raises(InvalidArgument) as caught:
        Recipe(**{"steps": 3, **changes})
    assert caught.value.reason == "TRAINING_RECIPE_INVALID"
    assert [violation.field for violation in caught.value.violations] == [field]
