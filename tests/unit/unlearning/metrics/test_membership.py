import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from palimpsest.errors import InvalidArgument
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.items import Text
from services.unlearning.metrics.membership import (
    ATTACKS,
    Membership,
    auc,
    auc_score,
    length_match,
    lowercase_ratio,
    lowest,
    membership,
    min_k,
    min_k_plus_plus,
    weighted_auc,
    wins_of,
    zlib_ratio,
)
from services.unlearning.metrics.token_scores import TokenScores

FORGET = [
    Text(f"f{n}", f"The quick brown fox No {n} JUMPS over the lazy dog {'and again ' * n}") for n in range(4)
]
HOLDOUT = [
    Text(f"h{n}", f"A settings folder kept real No {n} in a scratch test {'once more ' * n}")
    for n in range(5)
]
WHOLE = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


def scores_of(logprobs: list[float], mean: list[float], deviation: list[float]) -> TokenScores:
    return TokenScores(np.array(logprobs), np.zeros(len(logprobs), bool), np.array(mean), np.array(deviation))


@settings(derandomize=True)
@given(forget=WHOLE, holdout=WHOLE)
def test_auc_is_sklearns_and_counts_pairs_in_muses_orientation(forget, holdout):
    pairs = [(h > f) + 0.5 * (h == f) for f in forget for h in holdout]
    labels = [0] * len(forget) + [1] * len(holdout)
    got = auc(forget, holdout)
    assert got == pytest.approx(np.mean(pairs), abs=1e-12)
    assert got == pytest.approx(roc_auc_score(labels, forget + holdout), abs=1e-12)
    # every item once is the statistic itself
    scores = Membership("loss", dict(enumerate(forget)), dict(enumerate(holdout)))  # type: ignore[arg-type]
    once = [np.full((1, len(each)), 1 / len(each)) for each in (forget, holdout)]
    assert weighted_auc(wins_of(scores), *once)[0] == pytest.approx(got, abs=1e-12)


def test_a_memorised_forget_set_has_an_auc_of_0_and_a_strange_one_of_1():
    assert auc([-0.1, -0.2], [-3.0, -4.0]) == 0
    assert auc([-9.0, -8.0], [-3.0, -4.0]) == 1
    assert auc([-1.0], [-1.0]) == 0.5


@pytest.mark.parametrize(
    ("count", "k", "taken"), [(1, 0.4, 1), (2, 0.4, 1), (4, 0.4, 1), (5, 0.4, 2), (10, 0.4, 4), (3, 1.0, 3)]
)
def test_the_lowest_share_is_rounded_down_and_at_least_one(count, k, taken):
    values = np.arange(count)[::-1].astype(float)
    assert lowest(values, k) == np.arange(taken).mean()


def test_attacks_by_hand():
    scores = scores_of(
        [-1.0, -4.0, -2.0, -3.0, -0.5], [-2.0, -2.0, -1.0, -3.0, -2.5], [1.0, 2.0, 0.5, 0.0, 2.0]
    )
    assert min_k(scores) == -3.5  # the lowest two of five
    assert min_k_plus_plus(scores) == -1.5  # standardised 1, -1, -2, 0 / 0.001, 1
    assert zlib_ratio(scores, "abc") == pytest.approx(-2.1 / len(zlib.compress(b"abc")))
    assert lowercase_ratio(scores, scores_of([-1.0], [0.0], [0.0])) == pytest.approx(-2.1)


@pytest.mark.parametrize("k", [0.2, 0.4])
def test_attacks_are_a_recomputation_from_transformers_logits(module, tokenizer, k):
    found = membership(module, tokenizer, FORGET, HOLDOUT, attacks=ATTACKS, k=k)
    assert list(found) == list(ATTACKS)

    def logprobs(text: str) -> tuple[np.ndarray, np.ndarray]:
        ids = torch.tensor([tokenizer.encode(text)])
        with torch.no_grad():
            rows = module(ids).logits[0, :-1].double().log_softmax(-1).numpy()
        return rows, rows[np.arange(len(rows)), ids[0, 1:].numpy()]

    for text in (*FORGET, *HOLDOUT):
        rows, own = logprobs(text.text)
        _, lower = logprobs(text.text.lower())
        count = max(1, int(len(own) * k))
        mean = (np.exp(rows) * rows).sum(-1)
        standard = np.sqrt((np.exp(rows) * rows**2).sum(-1) - mean**2)
        expected = {
            "min_k": np.sort(own)[:count].mean(),
            "min_k_plus_plus": np.sort((own - mean) / standard)[:count].mean(),
            "loss": own.mean(),
            "zlib": own.mean() / len(zlib.compress(text.text.encode())),
            "lowercase": -own.mean() / lower.mean(),
        }
        for attack, value in expected.items():
            of = found[attack].forget if text in FORGET else found[attack].holdout
            assert of[text.id] == pytest.approx(value, rel=1e-3, abs=1e-5), attack


def test_an_auc_has_an_interval_over_both_sets_and_the_values_of_all_texts():
    rng = np.random.default_rng(0)
    scores = Membership(
        "min_k",
        {f"f{n}": value for n, value in enumerate(rng.normal(0.5, 1, 60))},
        {f"h{n}": value for n, value in enumerate(rng.normal(0, 1, 60))},
    )
    score = auc_score(scores)
    low, high = score.interval
    assert low < score.value < high
    # Hanley and McNeil's standard error of an AUC of .36 with 60 and 60 is .050
    assert (high - low) / 4 == pytest.approx(0.05, abs=0.008)
    assert score.n == len(score.items) == 120
    assert {item.group for item in score.items} == {"forget", "holdout"}
    assert score.metric == "auc_min_k"
    assert auc_score(scores, Bootstrap(resamples=0)).interval is None


def test_unknown_attacks_and_attacks_on_characters_of_ids_are_refused(module, tokenizer):
    with pytest.raises(InvalidArgument, match="METRIC_CONVENTION_UNKNOWN"):
        membership(module, tokenizer, FORGET, HOLDOUT, attacks=["min_p"])
    ids = [Text("i", (1, 2, 3))]
    with pytest.raises(InvalidArgument, match="looks at characters"):
        membership(module, tokenizer, ids, HOLDOUT, attacks=["zlib"])
    assert set(membership(module, tokenizer, ids, HOLDOUT)["min_k"].forget) == {"i"}


def test_sets_of_different_lengths_are_told(tokenizer):
    short = [Text(f"s{n}", tuple(range(10 + n % 5))) for n in range(30)]
    long = [Text(f"l{n}", tuple(range(13 + n % 5))) for n in range(30)]
    assert length_match(tokenizer, short, short[::-1]) == 1
    assert length_match(tokenizer, short, long) < 1e-4
