"""UNDO: the noise is its formula, and the distillation brings the student to what the teacher shows."""

import copy
import dataclasses

import pytest
import torch

from palimpsest.errors import InvalidArgument
from services.unlearning.algorithms import build
from services.unlearning.algorithms.undo import UndoParameters, add_noise
from tests.unit.unlearning.algorithms import plain


def test_the_student_is_a_mixture_with_xavier_noise(before):
    student = copy.deepcopy(before)
    add_noise(student, UndoParameters(alpha=0.25, beta=0.5), seed=9)
    for name, weight in student.named_parameters():
        kept = 0.75 * before.get_parameter(name)
        noise = (weight - kept) / (0.25 * 0.5)
        if weight.dim() < 2:
            assert torch.equal(weight, kept)
            continue
        bound = (6 / sum(weight.shape)) ** 0.5
        assert noise.abs().max() <= bound * (1 + 1e-6)
        assert noise.var().item() == pytest.approx(bound**2 / 3, rel=0.3)


def test_noise_is_of_its_seed_and_of_each_matrix(before):
    students = [copy.deepcopy(before) for _ in range(3)]
    for student, seed in zip(students, (1, 1, 2), strict=True):
        add_noise(student, UndoParameters(alpha=1.0, beta=1.0), seed)
    first, second, third = (dict(student.named_parameters()) for student in students)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(
        first["lm_head.weight" if "lm_head.weight" in first else "model.embed_tokens.weight"],
        third["model.embed_tokens.weight"],
    )
    one, two = (first[f"model.layers.{n}.mlp.up_proj.weight"] for n in (0, 1))
    assert not torch.equal(one, two)


def test_tied_weights_are_noised_once(before):
    student = copy.deepcopy(before)
    add_noise(student, UndoParameters(alpha=0.5, beta=0.0), seed=0)
    assert torch.equal(student.lm_head.weight, 0.5 * before.lm_head.weight)
    assert student.lm_head.weight is student.model.embed_tokens.weight


def test_no_noise_is_no_change(before):
    student = copy.deepcopy(before)
    add_noise(student, UndoParameters(alpha=0.0), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), before.parameters(), strict=True))


def test_the_distillation_is_the_divergence_at_every_token(inputs, before, now):
    retain = [inputs.retain[item] for item in inputs.retain_batch(1).items.tolist()]
    every = [dataclasses.replace(example, counted=(True,) * len(example.ids)) for example in retain]
    got = build("undo", {}, inputs).loss(now, 1).item()
    assert got == pytest.approx(plain.kl(now, before, every), rel=1e-9)


def test_distillation_repairs_the_student(inputs, memorised):
    inputs = dataclasses.replace(inputs, module=memorised, reference=memorised, forget=(), batch=8)
    student = copy.deepcopy(memorised).requires_grad_(True)
    add_noise(student, UndoParameters(alpha=0.5, beta=0.5), seed=1)
    objective = build("undo", {}, inputs)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    losses = []
    for step in range(40):
        optimizer.zero_grad()
        loss = objective.loss(student, step)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_a_teacher_is_needed_even_with_an_adapter(inputs):
    with pytest.raises(InvalidArgument) as caught:
        build("undo", {}, dataclasses.replace(inputs, reference=None, adapter=True))
    assert caught.value.violations[0].field == "reference"
