"""Probes: against transformers' own forward pass and scikit-learn's AUC; references by name."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.training.batches import Example
from services.unlearning.stopping import Measurement, Probe
from services.unlearning.stopping.probes import membership_auc
from services.unlearning.stopping.references import base, holdout, proxy, retrained
from tests.unit.unlearning import knowing

# Of different lengths, so that batches are padded; of one, only a part counts.
RAGGED = [
    Example(each.ids[: 6 + number], (True,) * (6 + number), each.name)
    for number, each in enumerate(knowing.FORGET)
]
RAGGED[3] = Example(RAGGED[3].ids, (False,) * 5 + (True,) * 4, "partly")


def reference(module, examples):
    """Losses, shares of likeliest tokens and Min-40 % losses, one text and one token at a time."""
    nlls, hits, worst = [], [], []
    for example in examples:
        with torch.no_grad():
            logits = module(input_ids=torch.tensor([example.ids])).logits[0].double()
        losses, right = [], []
        for at in range(1, len(example.ids)):
            if example.counted[at]:
                losses.append(-float(logits[at - 1].log_softmax(-1)[example.ids[at]]))
                right.append(int(logits[at - 1].argmax()) == example.ids[at])
        nlls.append(np.mean(losses))
        hits.append(np.mean(right))
        worst.append(np.mean(sorted(losses)[::-1][: max(1, int(0.4 * len(losses)))]))
    return np.array(nlls), np.array(hits), np.array(worst)


def test_a_measurement_is_what_transformers_says(target):
    probe = Probe(RAGGED, knowing.HOLDOUT, knowing.RETAIN, pad=0, batch=3)
    found = probe.measure(target, 12)
    f, h, r = (reference(target, each) for each in (RAGGED, knowing.HOLDOUT, knowing.RETAIN))
    expected = {
        "forget_nll": f[0].mean(),
        "forget_em": 100 * f[1].mean(),
        "holdout_nll": h[0].mean(),
        "holdout_em": 100 * h[1].mean(),
        "retain_nll": r[0].mean(),
        "retain_em": 100 * r[1].mean(),
        "utility": 100 * r[1].mean(),
        "loss_gap": f[0].mean() - h[0].mean(),
        "auc": roc_auc_score([0] * 8 + [1] * 8, [*-f[2], *-h[2]]),
    }
    assert found.step == 12
    assert dict(found.values) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert found.losses["forget"] == pytest.approx(f[0], rel=1e-4, abs=1e-5)
    assert found.losses["holdout"] == pytest.approx(h[0], rel=1e-4)


def test_what_it_tells_of_models_that_know_and_that_do_not(target, retrained):
    probe = Probe(knowing.FORGET, knowing.HOLDOUT, knowing.RETAIN, pad=0)
    knows, does_not = probe.measure(target, 0), probe.measure(retrained, 0)
    assert knows["auc"] == 0.0
    assert 0.1 < does_not["auc"] < 0.9
    assert knows["forget_em"] > 95 > 20 > does_not["forget_em"]
    assert min(knows["utility"], does_not["utility"]) > 95


def test_the_batch_and_the_pad_do_not_matter(target):
    first = Probe(RAGGED, knowing.HOLDOUT, pad=0, batch=1).measure(target, 0)
    second = Probe(RAGGED, knowing.HOLDOUT, pad=95, batch=5).measure(target, 0)
    assert dict(first.values) == pytest.approx(dict(second.values), rel=1e-4, abs=1e-5)
    assert "utility" not in first.values


def test_further_metrics_win_and_a_broken_model_is_not_asked(target):
    probe = Probe(knowing.FORGET, pad=0, extra=lambda module: {"repetition": 0.25, "forget_em": 1.0})
    assert probe.measure(target, 0)["repetition"] == 0.25
    assert probe.measure(target, 0)["forget_em"] == 1.0
    broken = knowing.blank()
    with torch.no_grad():
        broken.lm_head.weight += math.nan
    found = Probe(knowing.FORGET, knowing.HOLDOUT, pad=0, extra=lambda module: pytest.fail("asked"))
    values = found.measure(broken, 0).values
    assert math.isnan(values["forget_nll"])
    assert math.isnan(values["auc"])


def test_other_sets_are_measured_under_their_own_names(target):
    answers = [
        Example(each.ids, (False,) * 10 + (True,) * (len(each.ids) - 10), each.name)
        for each in knowing.RETAIN
    ]
    alone = Probe(RAGGED, pad=0).measure(target, 0).values
    found = Probe(RAGGED, pad=0, others={"answers": answers, "none": []}).measure(target, 0)
    nll, hits, _ = reference(target, answers)
    expected = {"answers_nll": nll.mean(), "answers_em": 100 * hits.mean(), **alone}
    assert dict(found.values) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(InvalidArgument, match="holdout") as error:
        Probe(RAGGED, pad=0, others={"holdout": answers})
    assert error.value.reason == Reason.PROBE_INVALID


def test_the_auc_counts_ties_by_half():
    assert membership_auc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 0.0
    assert membership_auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1.0
    assert membership_auc(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0.5
    rng = np.random.default_rng(0)
    forget, held = rng.integers(0, 6, 30).astype(float), rng.integers(2, 8, 40).astype(float)
    expected = roc_auc_score([0] * 30 + [1] * 40, [*-forget, *-held])
    assert membership_auc(forget, held) == pytest.approx(expected, abs=1e-12)


def test_a_probe_has_something_to_measure():
    for forget in ([], [Example((1, 2), (True, False), "nothing counts")]):
        with pytest.raises(InvalidArgument) as error:
            Probe(forget, pad=0)
        assert error.value.reason == Reason.PROBE_INVALID


def test_several_retrained_models_have_a_mean_and_a_spread():
    found = retrained({"a": {"auc": 0.4, "knowmem": 4.0}, "b": {"auc": 0.5}, "c": {"auc": 0.6}})
    assert found["auc"] == pytest.approx(0.5)
    assert found.spreads == {"auc": pytest.approx(0.1)}
    assert found.sentence == "Models retrained without the forget set: a, b, c."
    with pytest.raises(FailedPrecondition, match="knowmem") as error:
        found["knowmem"]  # not all of them were measured by it
    assert error.value.reason == Reason.REFERENCE_MISSING
    assert retrained({"a": {"auc": 0.4}}).spreads == {}
    with pytest.raises(FailedPrecondition):
        retrained({})


def test_a_proxy_moves_the_target_by_what_removal_changed_in_a_small_model():
    found = proxy(
        {"knowmem": 60.0, "verbmem": 50.0, "auc": 0.1},
        {"knowmem": 90.0, "verbmem": 95.0},
        {"knowmem": 10.0, "verbmem": 60.0},
        ("small", "small-retrained"),
        limits={"knowmem": (0.0, 100.0), "other": (0.0, 1.0)},
    )
    assert found.values == {"knowmem": 0.0, "verbmem": 15.0}
    assert found.kind == "proxy"
    assert "small-retrained" in found.sentence


def test_held_out_texts_stand_for_the_forget_set(target):
    measurement = Probe(knowing.FORGET, knowing.HOLDOUT, pad=0).measure(target, 0)
    found = holdout(measurement, "target")
    assert found["forget_nll"] == measurement["holdout_nll"]
    assert (found["auc"], found["loss_gap"], found.kind) == (0.5, 0.0, "holdout")
    with pytest.raises(InvalidArgument):
        holdout(Measurement(0, {}), "target")
    assert base({"forget_nll": 4.0}, "base")["forget_nll"] == 4.0
