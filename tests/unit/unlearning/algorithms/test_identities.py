"""What must hold of each loss by its definition."""

import copy
import math

import pytest
import torch
from torch.nn import functional

from palimpsest.training.token_losses import sequence_nll
from services.unlearning.algorithms import build
from services.unlearning.algorithms.contrast import combined_logits
from services.unlearning.algorithms.flat import flat
from services.unlearning.algorithms.preference import dpo, legacy_npo, npo, simnpo
from services.unlearning.algorithms.regularisers import divergence, legacy_divergence
from tests.unit.unlearning.algorithms.conftest import mean, near

TOKENS = torch.tensor([3, 11, 20])
REFERENCE = torch.tensor([2.0, 15.0, 44.0], dtype=torch.float64)
NLL = torch.tensor([2.5, 14.0, 60.0], dtype=torch.float64)


def gradients(loss, module):
    return torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)


def test_npo_tends_to_gradient_ascent():
    for norm, length in (("none", torch.ones(3)), ("token", TOKENS), ("sqrt", TOKENS.sqrt())):
        beta = 1e-6
        got = npo(NLL, REFERENCE, TOKENS, beta, norm) - 2 / beta * math.log(2)
        assert got.item() == pytest.approx(-((NLL - REFERENCE) / length).mean().item(), rel=1e-4)


@pytest.mark.parametrize("norm", ["none", "token", "sqrt"])
def test_npo_at_the_reference_is_log_two_times_two_over_beta(norm):
    assert npo(REFERENCE, REFERENCE, TOKENS, 0.1, norm).item() == pytest.approx(13.862943611, rel=1e-9)
    assert dpo(NLL, NLL, REFERENCE, REFERENCE, 0.1).item() == pytest.approx(13.862943611, rel=1e-9)


def test_the_gradient_of_npo_is_that_of_ascent_weighted_by_sequence():
    beta, nll = 0.3, NLL.clone().requires_grad_(True)
    (got,) = torch.autograd.grad(npo(nll, REFERENCE, TOKENS, beta), nll)
    now, before = (-NLL).exp() ** beta, (-REFERENCE).exp() ** beta
    weight = 2 * now / (now + before)
    assert torch.allclose(got, -weight / 3, rtol=1e-9)
    assert npo_weight(0.0) == pytest.approx(1.0)  # at the reference
    assert npo_weight(200.0) < 1e-8  # forgotten


def npo_weight(further):
    nll = torch.tensor([further + 5.0], dtype=torch.float64, requires_grad=True)
    (got,) = torch.autograd.grad(npo(nll, torch.tensor([5.0]), torch.tensor([4]), 0.1), nll)
    return -got.item()


def test_without_a_length_norm_the_weight_of_long_sequences_runs_out_first():
    """The same loss in nats a token: 1 more on each."""
    tokens = torch.tensor([10, 500])
    for norm, fair in (("none", False), ("token", True)):
        nll = tokens.double().mul(3).requires_grad_(True)
        (got,) = torch.autograd.grad(npo(nll, tokens.double().mul(2), tokens, 0.1, norm), nll)
        by_token = got * (tokens if norm == "token" else 1)
        assert (by_token[1] / by_token[0] > 0.99) == fair


def test_simnpo_is_npo_with_a_constant_reference_for_each_token():
    assert simnpo(NLL, TOKENS, 2.5, 1.2).item() == pytest.approx(
        npo(NLL, 1.2 * TOKENS.double(), TOKENS, 2.5, "token").item(), rel=1e-12
    )


def test_the_divergence_is_zero_with_no_gradient_at_the_reference(before, inputs):
    now = copy.deepcopy(before).requires_grad_(True)
    loss = divergence(now, before, inputs.retain_batch(0))
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert all(g is None or g.abs().max() < 1e-12 for g in gradients(loss, now))


def test_bad_teaching_ends_where_the_teacher_is(before, inputs):
    """A floor of 0 without a gradient; ascent has none."""
    now = copy.deepcopy(before).requires_grad_(True)
    loss = build("bad_teaching", {"regulariser": "none"}, inputs).loss(now, 0)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert all(g is None or g.abs().max() < 1e-12 for g in gradients(loss, now))


def test_the_divergence_is_not_negative(before, inputs):
    for seed in range(5):
        assert divergence(near(before, seed, 0.2), before, inputs.retain_batch(seed)).item() > 0


def test_undial_with_nothing_taken_away_has_no_gradient_at_the_reference(before, inputs):
    now = copy.deepcopy(before).requires_grad_(True)
    for beta, still in ((0.0, True), (10.0, False)):
        loss = build("undial", {"beta": beta}, inputs).loss(now, 0)
        assert all(g is None or g.abs().max() < 1e-12 for g in gradients(loss, now)) == still


def test_ascent_is_descent_backwards(inputs, now):
    ascent = build("ga", {}, inputs).loss(now, 0)
    assert ascent.item() == pytest.approx(-build("tv", {}, inputs).loss(now, 0).item(), rel=1e-12)
    assert ascent.item() == pytest.approx(-mean(now, inputs.forget_batch(0)).item(), rel=1e-12)


@pytest.mark.parametrize(("name", "values"), [("wga", {"beta": 0}), ("satimp", {"beta1": 0, "beta2": 0})])
def test_weighted_ascent_without_weights_is_ascent(name, values, inputs, now):
    values = {**values, "regulariser": "none", "gamma": 1}
    assert build(name, values, inputs).loss(now, 0).item() == pytest.approx(
        build("ga", {}, inputs).loss(now, 0).item(), rel=1e-12
    )


def test_dpo_against_an_impossible_rival_is_npo():
    """Where the wanted answer's likelihood does not change, DPO is NPO of the unwanted one."""
    assert dpo(NLL, NLL, NLL, REFERENCE, 0.2).item() == pytest.approx(
        npo(NLL, REFERENCE, TOKENS, 0.2).item(), rel=1e-12
    )


@pytest.mark.parametrize("divergence_name", ["tv", "kl", "pearson"])
def test_flat_wants_the_other_answer(divergence_name):
    wanted, known = (torch.tensor([0.3, 0.6], requires_grad=True) for _ in range(2))
    first, second = torch.autograd.grad(flat(wanted, known, divergence_name), [wanted, known])
    assert (first < 0).all()
    assert (second > 0).all()


def test_the_contrast_of_whp_without_weight_or_difference_is_the_model():
    base = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    assert torch.equal(combined_logits(base, base + 1, 0.0), base)
    assert torch.equal(combined_logits(base, base, 5.0), base)


def test_muse_s_released_losses_are_those_of_its_conventions(before, now, inputs):
    """On raw logits, by torch's own functions; one sequence, so that nothing is padded."""
    batch = inputs.retain_batch(0)
    row = batch.__class__(batch.ids[:1], batch.attention[:1], batch.counted[:1], batch.items[:1])
    row = row.__class__(*(t[:, : int(row.attention.sum())] if t.dim() > 1 else t for t in vars(row).values()))
    ours, theirs = (m(input_ids=row.ids).logits for m in (now, before))
    want = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    assert legacy_divergence(now, before, row).item() == pytest.approx(want.item(), rel=1e-9)
    want = -2 / 0.1 * functional.logsigmoid(0.1 * (theirs - ours)).mean()
    assert legacy_npo(ours, theirs, row.attention, 0.1).item() == pytest.approx(want.item(), rel=1e-9)


def test_muse_s_released_divergence_has_no_lower_bound(before, inputs):
    """Why it is not the default: it is negative, and far so, for a model whose logits are merely shifted up."""
    shifted = copy.deepcopy(before)
    logits = shifted.lm_head
    logits.register_forward_hook(lambda _module, _inputs, output: output + 50.0)
    batch = inputs.retain_batch(0)
    assert legacy_divergence(shifted, before, batch).item() < -100
    assert divergence(shifted, before, batch).item() == pytest.approx(0, abs=1e-9)


def test_the_reference_of_npo_is_the_model_before(before, now, inputs):
    objective = build("npo", {"beta": 0.1}, inputs)
    assert objective.loss(before, 0).item() == pytest.approx(2 / 0.1 * math.log(2), rel=1e-9)
    batch = inputs.forget_batch(0)
    want = npo(sequence_nll(now, batch), sequence_nll(before, batch), batch.counted.sum(dim=1), 0.1)
    assert objective.loss(now, 0).item() == pytest.approx(want.item(), rel=1e-9)
