import math

import numpy as np
import pytest
import torch
from scipy import stats

from palimpsest.errors import InvalidArgument
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import Pair, Template
from services.unlearning.metrics.scores import Definition, Score, mean_score
from services.unlearning.metrics.tofu import (
    KEPT_PROBABILITY,
    forget_quality,
    kept_rouge,
    model_utility,
    probability,
    truth_ratio,
    truth_ratio_score,
    truth_ratios,
)

FAST = Bootstrap(resamples=200)
TEMPLATE = Template(question="{question}", answer=" {answer}")
PAIRS = [
    Pair(
        "a",
        "the quick",
        "brown fox",
        paraphrase="fox so brown",
        perturbed=("lazy dog", "red fox", "real folder"),
    ),
    Pair("b", "two models", "in a folder", paraphrase="of a scratch folder", perturbed=("over the dog",)),
]


def nll(module, tokenizer, question: str, answer: str) -> float:
    head, tail = tokenizer.encode(question), tokenizer.encode(" " + answer)
    labels = torch.tensor([[-100] * len(head) + tail])
    with torch.no_grad():
        return module(torch.tensor([head + tail]), labels=labels).loss.item()


def test_truth_ratio_by_hand_in_both_conventions():
    # wrong answers of probability 1/2 and 1/8 a token, the paraphrase of 1/4
    perturbed, paraphrased = np.log([2.0, 8.0]), math.log(4.0)
    assert truth_ratio(paraphrased, perturbed, "loss") == pytest.approx((1 / 4) / (1 / 4))
    assert truth_ratio(paraphrased, perturbed, "probability") == pytest.approx((5 / 16) / (1 / 4))
    assert truth_ratio(900.0, perturbed) == math.inf
    assert truth_ratio(paraphrased, perturbed + 900, "probability") == pytest.approx(0, abs=1e-300)
    same = np.log([4.0, 4.0])
    assert truth_ratio(paraphrased, same, "probability") == pytest.approx(
        truth_ratio(paraphrased, same, "loss")
    )


def test_probabilities_and_ratios_are_those_of_transformers_losses(module, tokenizer):
    plain = probability(module, tokenizer, PAIRS, template=TEMPLATE, bootstrap=FAST)
    shares = probability(module, tokenizer, PAIRS, normalised=True, template=TEMPLATE, bootstrap=FAST)
    ratios = {
        averaging: truth_ratios(module, tokenizer, PAIRS, averaging=averaging, template=TEMPLATE)
        for averaging in ("loss", "probability")
    }
    for at, pair in enumerate(PAIRS):
        p = math.exp(-nll(module, tokenizer, pair.question, pair.answer))
        losses = np.array([nll(module, tokenizer, pair.question, wrong) for wrong in pair.perturbed])
        paraphrased = math.exp(-nll(module, tokenizer, pair.question, pair.paraphrase))
        assert plain.items[at].value == pytest.approx(p, rel=1e-4)
        assert shares.items[at].value == pytest.approx(p / (p + np.exp(-losses).sum()), rel=1e-4)
        assert ratios["loss"][pair.id] == pytest.approx(math.exp(-losses.mean()) / paraphrased, rel=1e-4)
        assert ratios["probability"][pair.id] == pytest.approx(np.exp(-losses).mean() / paraphrased, rel=1e-4)
    assert (shares.convention, plain.convention) == ("normalised", "")


def test_reported_ratios_by_hand():
    ratios = {"a": 0.5, "b": 2.0, "c": 1.0, "d": 4.0, "e": 0.0}
    forget = truth_ratio_score({**ratios, "f": math.inf}, bootstrap=FAST)
    assert [item.value for item in forget.items] == [0.5, 0.5, 1.0, 0.25, 0.0, 0.0]
    assert forget.value == pytest.approx(2.25 / 6)
    kept = truth_ratio_score(ratios, kept=True, averaging="probability", bootstrap=FAST)
    assert [item.value for item in kept.items] == [0.5, 0.0, 0.0, 0.0, 1.0]
    assert (kept.value, kept.convention) == (pytest.approx(0.3), "probability")


def test_forget_quality_is_scipys_ks_test_and_does_not_care_which_way_the_ratio_is_taken():
    rng = np.random.default_rng(1)
    unlearned = {f"q{n}": value for n, value in enumerate(rng.lognormal(0, 1, 40))}
    retrained = {f"q{n}": value for n, value in enumerate(rng.lognormal(0.8, 1, 40))}
    score = forget_quality(unlearned, retrained)
    expected = stats.ks_2samp(np.array(list(unlearned.values())), np.array(list(retrained.values()))).pvalue
    assert score.value == expected
    assert 0 < expected < 0.05
    upside_down = ({k: 1 / v for k, v in unlearned.items()}, {k: 1 / v for k, v in retrained.items()})
    assert forget_quality(*upside_down).value == pytest.approx(expected)
    assert forget_quality(retrained, retrained).value == 1
    assert (score.n, len(score.items), score.interval) == (40, 80, None)


def part(values: list[float], definition: Definition = KEPT_PROBABILITY) -> Score:
    return mean_score(definition, {f"i{n}": value for n, value in enumerate(values)}, FAST)


def test_model_utility_is_the_harmonic_mean_and_zero_if_any_part_is():
    parts = [part([0.2, 0.8]), part([1.0, 1.0]), part([0.25, 0.25])]
    score = model_utility(parts)
    assert score.value == pytest.approx(3 / (1 / 0.5 + 1 / 1 + 1 / 0.25))
    assert score.interval[0] < score.value < score.interval[1]
    assert (score.n, score.convention) == (6, "3 parts")
    assert model_utility([*parts, part([0.0, 0.0])]).value == 0
    nine = [part([value / 10, value / 10]) for value in range(1, 10)]
    assert model_utility(nine).value == pytest.approx(stats.hmean([value / 10 for value in range(1, 10)]))


def test_percents_and_lower_is_better_are_no_part_of_utility():
    wrong = part([0.5], Definition("knowmem", 1, "percent", "lower"))
    for parts in ([], [part([0.5]), wrong]):
        with pytest.raises(InvalidArgument, match="METRIC_ITEMS_INVALID"):
            model_utility(parts)


def test_rouge_of_what_is_kept_is_recall_as_a_share(module, tokenizer):
    score = kept_rouge(module, tokenizer, PAIRS, template=TEMPLATE, max_new_tokens=8, bootstrap=FAST)
    assert (score.convention, score.definition.unit, score.n) == ("tofu", "share", 2)
    assert 0 <= score.value <= 1
    assert model_utility([score, part([0.5])]).value <= 1


def test_pairs_without_wrong_answers_are_named(module, tokenizer):
    bare = Pair("bare", "Who?", "he")
    with pytest.raises(InvalidArgument, match="bare"):
        truth_ratios(module, tokenizer, [*PAIRS, bare])
    with pytest.raises(InvalidArgument, match="bare"):
        probability(module, tokenizer, [*PAIRS, bare], normalised=True)
