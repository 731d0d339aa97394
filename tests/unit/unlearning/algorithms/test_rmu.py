"""RMU: its formula over transformers' own hidden states, its target, and which weights it trains."""

import dataclasses
import math

import pytest
import torch

from palimpsest.errors import InvalidArgument
from services.unlearning.algorithms import build
from services.unlearning.algorithms.rmu import direction, hidden_states
from tests.unit.unlearning.algorithms.plain import average

LAYER = 1


def states(module, example):
    """Hidden states after the block, one row a token, by transformers' own means."""
    with torch.no_grad():
        output = module(input_ids=torch.tensor([example.ids]), output_hidden_states=True)
    return output.hidden_states[LAYER + 1][0].tolist()


def squares(rows, targets):
    return average(
        math.fsum((a - b) ** 2 for a, b in zip(row, target, strict=True)) / len(row)
        for row, target in zip(rows, targets, strict=True)
    )


def test_the_loss_is_its_formula(inputs, before, now):
    objective = build("rmu", {"layer": LAYER, "steering": 3.5, "alpha": 2.0, "gamma": 0.5}, inputs)
    target = [3.5 * value for value in direction(16, inputs.seed).tolist()]
    for step in (0, 2):
        forget = [inputs.forget[item] for item in inputs.forget_batch(step).items.tolist()]
        retain = [inputs.retain[item] for item in inputs.retain_batch(step).items.tolist()]
        rows = [row for example in forget for row in states(now, example)]
        held = [row for example in retain for row in states(now, example)]
        were = [row for example in retain for row in states(before, example)]
        want = 0.5 * squares(rows, [target] * len(rows)) + 2.0 * squares(held, were)
        assert objective.loss(now, step).item() == pytest.approx(
            want, rel=1e-6
        )  # the target is drawn in float32


def test_what_is_padded_does_not_matter(inputs, now):
    losses = [build("rmu", {}, dataclasses.replace(inputs, pad=pad)).loss(now, 0).item() for pad in (0, 9)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_the_direction_is_a_unit_vector_of_its_seed():
    vector = direction(64, 3)
    assert vector.norm().item() == pytest.approx(1, rel=1e-6)
    assert (vector >= 0).all()
    assert torch.equal(vector, direction(64, 3))
    assert not torch.equal(vector, direction(64, 4))


def test_the_target_is_by_default_six_times_as_long_as_the_states(inputs, before, now):
    lengths = [math.hypot(*row) for example in inputs.forget for row in states(before, example)]
    own = build("rmu", {"layer": LAYER}, inputs).loss(now, 0).item()
    told = build("rmu", {"layer": LAYER, "steering": 6 * average(lengths)}, inputs).loss(now, 0).item()
    assert own == pytest.approx(told, rel=1e-6)


def test_the_retain_term_is_zero_before_the_run(inputs, before):
    assert build("rmu", {"gamma": 0}, inputs).loss(before, 0).item() == pytest.approx(0, abs=1e-20)


def test_three_last_matrices_of_mlps_are_trained(inputs, now):
    objective = build("rmu", {"layer": 2}, inputs)
    names = tuple(f"model.layers.{block}.mlp.down_proj.weight" for block in range(3))
    assert objective.trained == names
    assert build("rmu", {"layer": 0}, inputs).trained == names[:1]
    assert build("rmu", {"layer": 2, "trained": "all"}, inputs).trained is None


def test_blocks_above_take_no_part(inputs, now):
    build("rmu", {"layer": LAYER}, inputs).loss(now, 0).backward()
    for name, weight in now.named_parameters():
        above = "layers.2." in name or name == "model.norm.weight"
        assert (weight.grad is None) == above, name


def test_no_hook_is_left(inputs, now):
    batch = inputs.forget_batch(0)
    now(input_ids=batch.ids)  # transformers leaves hooks of its own
    hooks = [len(block._forward_hooks) for block in now.model.layers]
    for _ in range(3):
        hidden_states(now, batch, LAYER)
    assert [len(block._forward_hooks) for block in now.model.layers] == hooks


def test_a_block_that_is_not_there_is_refused(inputs):
    with pytest.raises(InvalidArgument) as caught:
        build("rmu", {"layer": 3}, inputs)
    assert caught.value.reason == "ALGORITHM_PARAMETER_INVALID"
    assert caught.value.violations[0].field == "layer"
