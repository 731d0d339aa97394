"""Every loss equals a plain loop over tokens, whatever is padded beside what."""

import copy
import dataclasses

import pytest
import torch

from palimpsest.training.token_losses import token_nll
from services.unlearning.algorithms import ALGORITHMS, algorithm, build
from services.unlearning.algorithms.contrast import ContrastedModel, WhpParameters, combined_logits
from tests.unit.unlearning.algorithms import plain

CASES = [
    ("ga", {}, plain.ga),
    ("ga_gdr", {"alpha": 3.0}, plain.ga),
    ("ga_klr", {"alpha": 0.5}, plain.ga),
    ("npo", {}, plain.npo),
    ("npo", {"beta": 0.7, "length_norm": "token"}, plain.npo),
    ("npo_gdr", {"length_norm": "sqrt"}, plain.npo),
    ("npo_klr", {"gamma": 2.0}, plain.npo),
    ("simnpo", {"regulariser": "none", "gamma": 1.0}, plain.simnpo),
    ("simnpo", {"delta": 1.5, "beta": 2.5}, plain.simnpo),
    ("dpo", {}, plain.dpo),
    ("dpo", {"beta": 2.0, "regulariser": "none"}, plain.dpo),
    ("idk", {}, plain.idk),
    ("flat", {}, plain.flat),
    ("flat", {"divergence": "kl"}, plain.flat),
    ("flat", {"divergence": "pearson", "regulariser": "gdr"}, plain.flat),
    ("undial", {}, plain.undial),
    ("undial", {"beta": 3.0, "regulariser": "klr"}, plain.undial),
    ("wga", {"beta": 1.5}, plain.wga),
    ("bad_teaching", {"alpha": 2.0}, plain.bad_teaching),
    ("bad_teaching", {"gamma": 0.5, "regulariser": "none"}, plain.bad_teaching),
    ("satimp", {"beta1": 2.0, "beta2": 0.5}, plain.satimp),
    ("npo", {"legacy_muse": True}, plain.legacy_npo),
    ("npo_klr", {"legacy_muse": True}, plain.legacy_npo),
    ("ga_klr", {"legacy_muse": True}, plain.ga),
]


def expected(name, values, forget_loss, inputs, now, step):
    parameters = algorithm(name).parse(values)
    before = inputs.reference
    items = inputs.forget_batch(step).items.tolist()
    places = inputs.alternative_batch(step)[1].tolist()
    forget = [inputs.forget[item] for item in items]
    others = [inputs.alternatives[item][place] for item, place in zip(items, places, strict=True)]
    retain = [inputs.retain[item] for item in inputs.retain_batch(step).items.tolist()]
    total = parameters.gamma * forget_loss(now, before, forget, others, parameters)
    if parameters.regulariser == "gdr":
        total += parameters.alpha * plain.cross_entropy(now, retain)
    if parameters.regulariser == "klr":
        kl = plain.legacy_kl if getattr(parameters, "legacy_muse", False) else plain.kl
        total += parameters.alpha * kl(now, before, retain)
    return total


@pytest.mark.parametrize(("name", "values", "forget_loss"), CASES)
def test_a_loss_is_its_formula(name, values, forget_loss, inputs, now):
    objective = build(name, values, inputs)
    for step in (0, 2):  # the last batch of an epoch is short
        got = objective.loss(now, step).item()
        assert got == pytest.approx(expected(name, values, forget_loss, inputs, now, step), rel=1e-9)


@pytest.mark.parametrize(("name", "values", "forget_loss"), CASES)
def test_the_id_that_pads_does_not_matter(name, values, forget_loss, inputs, now):
    other = dataclasses.replace(inputs, pad=7)
    got = [build(name, values, each).loss(now, 0).item() for each in (inputs, other)]
    assert got[0] == pytest.approx(got[1], rel=1e-12)


def test_every_trained_loss_is_compared():
    """RMU, UNDO and SAM-NPO have files of their own."""
    trained = {name for name, each in ALGORITHMS.items() if each.kind == "trained"}
    assert trained == {name for name, _, _ in CASES} | {"rmu", "undo", "npo_sam"}


@pytest.mark.parametrize("name", ["tv", "whp"])
def test_the_reinforced_model_is_trained_on_the_forget_set(name, inputs, now):
    forget = [inputs.forget[item] for item in inputs.forget_batch(1).items.tolist()]
    got = build(name, {}, inputs).loss(now, 1).item()
    assert got == pytest.approx(plain.cross_entropy(now, forget), rel=1e-9)


@pytest.mark.parametrize("name", ["retrain", "shard_adapters"])
def test_retraining_is_training_on_the_retain_set(name, inputs, now):
    retain = [inputs.retain[item] for item in inputs.retain_batch(1).items.tolist()]
    got = build(name, {}, inputs).loss(now, 1).item()
    assert got == pytest.approx(plain.cross_entropy(now, retain), rel=1e-9)


def test_the_contrast_of_whp_is_its_formula():
    generator = torch.Generator().manual_seed(0)
    base, reinforced = torch.randn(2, 4, 9, generator=generator, dtype=torch.float64)
    got = combined_logits(base, reinforced, 2.5)
    for row in range(4):
        for word in range(9):
            b, r = base[row, word].item(), reinforced[row, word].item()
            assert got[row, word].item() == pytest.approx(b - 2.5 * max(0.0, r - b), rel=1e-12)


def test_whp_is_measured_like_any_model(inputs, before, now):
    model = ContrastedModel(before, now, WhpParameters(alpha=2.0))
    batch = inputs.forget_batch(0)
    got = token_nll(model, batch)
    ours, theirs = (m(input_ids=batch.ids, attention_mask=batch.attention).logits for m in (before, now))
    logits = combined_logits(ours, theirs, 2.0)
    for row, item in enumerate(batch.items.tolist()):
        for at in range(1, len(inputs.forget[item].ids)):
            want = -plain.log_softmax(logits[row, at - 1].tolist())[batch.ids[row, at]]
            assert got[row, at - 1].item() == pytest.approx(want if batch.counted[row, at] else 0.0, rel=1e-9)


def test_the_parts_of_a_loss_sum_to_it(inputs, now):
    objective = build("npo_gdr", {}, inputs)
    parts = [part.item() for part in objective.parts(now, 1)]
    assert len(parts) == 2
    assert objective.loss(now, 1).item() == pytest.approx(sum(parts), rel=1e-12)


def test_float32_is_close_to_the_formula(inputs, now):
    """The dtype that runs use."""
    single = dataclasses.replace(inputs, module=_single(inputs.module), reference=_single(inputs.reference))
    want = expected("npo_klr", {}, plain.npo, inputs, now, 0)
    assert build("npo_klr", {}, single).loss(_single(now), 0).item() == pytest.approx(want, rel=1e-5)


def _single(module):
    return copy.deepcopy(module).float()
