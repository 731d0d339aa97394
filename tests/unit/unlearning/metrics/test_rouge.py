import random

import pytest
from rouge_score.rouge_scorer import RougeScorer

from palimpsest.errors import InvalidArgument
from services.unlearning.metrics.rouge import CONVENTIONS, convention_named, rouge_l

TEXT = "the runner runs running ran Dogs dog's re-entered 1984 naïve, weather; weathered (closing) Closed a"
WORDS = TEXT.split()


def sentence(rng: random.Random, least: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(least, 30)))


@pytest.mark.parametrize(
    ("name", "stemmer", "statistic"),
    [("muse", False, "fmeasure"), ("open_unlearning", True, "fmeasure"), ("tofu", True, "recall")],
)
def test_conventions_are_rouge_score_on_500_pairs(name, stemmer, statistic):
    rng = random.Random(1)
    scorer = RougeScorer(["rougeL"], use_stemmer=stemmer)
    values = set()
    for _ in range(500):
        truth, output = sentence(rng, 1), sentence(rng, 0)
        expected = getattr(scorer.score(truth, output)["rougeL"], statistic)
        assert rouge_l([truth], output, CONVENTIONS[name]) == expected
        values.add(expected)
    assert len(values) > 50


def test_conventions_differ_where_they_should():
    truth, output = "she was running home", "she runs"
    of = {name: rouge_l([truth], output, convention) for name, convention in CONVENTIONS.items()}
    assert of == {"muse": pytest.approx(1 / 3), "open_unlearning": pytest.approx(2 / 3), "tofu": 0.5}


def test_the_best_alias_counts():
    muse = CONVENTIONS["muse"]
    assert rouge_l(["the fox"], "a dog", muse) == 0
    assert rouge_l(["the fox", "a dog"], "a dog", muse) == 1


@pytest.mark.parametrize("truth", ["", "...", "Привет, мир", "東京"])
def test_a_truth_that_nothing_could_match_is_refused(truth):
    with pytest.raises(InvalidArgument, match="METRIC_ITEMS_INVALID"):
        rouge_l(["the fox", truth], "the fox", CONVENTIONS["muse"])


def test_an_unknown_convention_is_refused_with_those_there_are():
    with pytest.raises(InvalidArgument, match="muse, open_unlearning, tofu"):
        convention_named("rouge2")
