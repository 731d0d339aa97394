import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from palimpsest.errors import InvalidArgument
from services.unlearning.metrics.generation import greedy
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import Pair, Prompt, Template
from services.unlearning.metrics.membership import Membership, auc
from services.unlearning.metrics.muse import (
    RETRAIN_AUC,
    knowledge_memory,
    privacy_leak,
    utility,
    verbatim_memory,
)

FAST = Bootstrap(resamples=200)


def named(values: list[float], letter: str) -> dict[str, float]:
    return {f"{letter}{n}": value for n, value in enumerate(values)}


def test_privleak_by_hand():
    # three of the four pairs have the held-out text above: 3/4 against 1/2
    unlearned = Membership("min_k", named([-1.0, -3.0], "f"), named([-2.0, -0.5], "h"))
    retrained = Membership("min_k", named([-1.0, -3.0], "f"), named([-2.0, -2.5], "h"))
    score = privacy_leak(unlearned, retrained)
    assert score.value == pytest.approx(50)
    assert privacy_leak(unlearned, 0.5).value == pytest.approx(50)
    assert (score.target, score.definition.direction, score.n, score.convention) == (0, "target", 4, "min_k")


@pytest.mark.parametrize(("corpus", "most"), [("news", 109.6), ("books", 85.4)])
def test_the_published_retrained_models_bound_privleak(corpus, most):
    strange = Membership("min_k", named([-9.0, -8.0], "f"), named([-1.0, -2.0], "h"))
    familiar = Membership("min_k", named([-1.0, -2.0], "f"), named([-9.0, -8.0], "h"))
    score = privacy_leak(strange, RETRAIN_AUC[corpus])
    assert round(score.value, 1) == most
    assert score.interval == (pytest.approx(score.value), pytest.approx(score.value))
    assert privacy_leak(familiar, RETRAIN_AUC[corpus]).value == -100


def test_the_unlearned_and_the_retrained_model_are_resampled_together():
    rng = np.random.default_rng(3)
    scores = Membership(
        "min_k", named(rng.normal(size=30).tolist(), "f"), named(rng.normal(size=30).tolist(), "h")
    )
    assert privacy_leak(scores, scores).interval == (0, 0)
    apart = privacy_leak(scores, auc(list(scores.forget.values()), list(scores.holdout.values())))
    assert apart.interval[0] < -5
    assert apart.interval[1] > 5


@pytest.mark.parametrize("base", [0.0, -0.1, 1.1, float("nan")])
def test_an_impossible_auc_is_refused(base):
    scores = Membership("min_k", {"f": 1.0}, {"h": 0.0})
    with pytest.raises(InvalidArgument, match="METRIC_ITEMS_INVALID"):
        privacy_leak(scores, base)


def test_other_texts_or_another_attack_are_refused():
    scores = Membership("min_k", {"f": 1.0}, {"h": 2.0})
    for other in (Membership("loss", {"f": 1.0}, {"h": 2.0}), Membership("min_k", {"g": 1.0}, {"h": 2.0})):
        with pytest.raises(InvalidArgument, match="same texts"):
            privacy_leak(scores, other)


def written(module, tokenizer, prompt: str, tokens: int) -> str:
    (new,) = greedy(module, [tokenizer.encode(prompt)], max_new_tokens=tokens, eos_ids=[0])
    return tokenizer.decode(new, skip_special_tokens=True)


def test_verbmem_is_the_mean_rouge_of_greedy_continuations(module, tokenizer):
    starts = ["the quick brown", "every kind of test", "two models in a folder"]
    recited = written(module, tokenizer, starts[0], 12)
    truths = [recited, "jumps over the lazy dog", "settings of a real fox"]
    prompts = [
        Prompt(f"p{n}", start, truth) for n, (start, truth) in enumerate(zip(starts, truths, strict=True))
    ]
    score = verbatim_memory(module, tokenizer, prompts, max_new_tokens=12, bootstrap=FAST)
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    expected = []
    for start, truth in zip(starts, truths, strict=True):
        known = tokenizer.decode(tokenizer.encode(truth)[:12])
        expected.append(100 * scorer.score(known, written(module, tokenizer, start, 12))["rougeL"].fmeasure)
    assert [item.value for item in score.items] == pytest.approx(expected)
    assert score.value == pytest.approx(np.mean(expected))
    assert (score.metric, score.n, score.convention, score.definition.unit) == (
        "verbmem",
        3,
        "muse",
        "percent",
    )


def test_of_a_truth_only_as_much_counts_as_may_be_written(module, tokenizer):
    whole = "the quick brown fox jumps over the lazy dog"
    cut = tokenizer.decode(tokenizer.encode(whole)[:5])
    prompts = [Prompt("p", "two models", whole)]
    short = [Prompt("p", "two models", cut)]
    values = [
        verbatim_memory(module, tokenizer, each, max_new_tokens=5, bootstrap=FAST).value
        for each in (prompts, short)
    ]
    assert values[0] == values[1]


def test_knowmem_takes_the_answer_up_to_a_stop_and_the_best_alias(module, tokenizer):
    template = Template(stops=("!",))
    pair = Pair("q", "the quick brown fox", "settings")
    written_out = written(module, tokenizer, template.prompt(pair), 16)
    words = [word for word in written_out.lower().split() if word.isascii() and word.isalnum()]
    said = template.cut(written_out)
    known = Pair(
        "q", pair.question, "settings", aliases=(said,) if any(map(str.isalnum, said)) else tuple(words[:1])
    )
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    expected = max(scorer.score(truth, said)["rougeL"].fmeasure for truth in (known.answer, *known.aliases))
    score = knowledge_memory(module, tokenizer, [known], template=template, max_new_tokens=16, bootstrap=FAST)
    assert score.value == pytest.approx(100 * expected)
    kept = utility(module, tokenizer, [known], template=template, max_new_tokens=16, bootstrap=FAST)
    assert (kept.metric, kept.definition.direction, kept.value) == ("utility", "higher", score.value)


def test_an_unknown_convention_is_refused_before_anything_is_generated(module, tokenizer):
    with pytest.raises(InvalidArgument, match="METRIC_CONVENTION_UNKNOWN"):
        verbatim_memory(module, tokenizer, [Prompt("p", "the", "fox")], convention="bleu")
