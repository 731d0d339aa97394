"""Halves that never cross, and successive halving on objectives whose best setting is known."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.search import Setting, grid, schedule, search
from services.unlearning.splits import half_of, halves, require

NAMES = [f"item-{number}" for number in range(200)]
TUNE = halves(NAMES, str).tune


def test_halves_cover_all_items_and_share_none():
    found = halves(NAMES, str)
    assert sorted(found.tune + found.certify) == sorted(NAMES)
    assert 80 < len(found.tune) < 120
    require("tune", found.tune)
    require("certify", found.certify)
    with pytest.raises(InvalidArgument) as error:
        require("tune", [*found.tune, found.certify[0]])
    assert error.value.reason == Reason.SPLIT_CROSSED


def test_the_half_of_an_id_is_fixed():
    # Certificates that were issued name it: a change here would move items between halves.
    assert [half_of(name) for name in ("a", "b", "c", "d", "e", "f")] == [
        "certify",
        "tune",
        "certify",
        "tune",
        "tune",
        "tune",
    ]


@given(st.lists(st.text(max_size=8), unique=True, max_size=12), st.randoms(use_true_random=False))
@settings(derandomize=True, max_examples=30, deadline=None)
def test_no_other_item_moves_one(names, random):
    shuffled = list(names)
    random.shuffle(shuffled)
    names_and_both = [*names, "a", "b"]  # one of each half
    for given_ in (names_and_both, [*shuffled, "b", "a"]):
        found = halves(given_, str)
        assert list(found.tune) == [name for name in given_ if half_of(name) == "tune"]
        assert list(found.certify) == [name for name in given_ if half_of(name) == "certify"]


def test_a_half_without_items_is_told():
    with pytest.raises(InvalidArgument) as error:
        halves(["a", "c"], str)
    assert error.value.reason == Reason.SPLIT_EMPTY


def test_items_about_one_document_stay_together():
    pairs = [(f"doc-{number // 4}", number) for number in range(80)]
    found = halves(pairs, lambda pair: pair[0])
    assert not {document for document, _ in found.tune} & {document for document, _ in found.certify}


BEST = Setting(3e-5, 2.0, 0.1)


def distance(setting):
    """How far a setting is from the best, in powers of ten, two and ten."""
    return (
        abs(math.log10(setting.learning_rate / BEST.learning_rate))
        + abs(math.log2(setting.retain_weight / BEST.retain_weight))
        + abs(math.log10(setting.beta / BEST.beta))
    )


def test_the_best_setting_is_found_for_a_fraction_of_the_cost():
    seen = []

    def evaluate(setting, steps, items):
        seen.append(tuple(items))
        return distance(setting) + 0.1 / steps

    found = search(grid(betas=(0.05, 0.1)), TUNE, evaluate, 90)
    assert found.best == BEST
    assert [(t.round, t.steps) for t in found.trials] == [(0, 4)] * 24 + [(1, 10)] * 8 + [(2, 30)] * 2 + [
        (3, 90)
    ]
    assert set(seen) == {TUNE}
    assert found.trials[-1].setting == BEST
    spent = sum(trial.steps for trial in found.trials)
    assert spent == 4 * 24 + 10 * 8 + 30 * 2 + 90 < 24 * 90 / 6


def test_rounds():
    assert schedule(1, 50) == [(1, 50)]
    assert schedule(12, 100) == [(12, 12), (4, 34), (1, 100)]
    assert schedule(9, 1) == [(9, 1), (3, 1), (1, 1)]
    assert schedule(5, 8, factor=2) == [(5, 2), (2, 4), (1, 8)]


def test_of_equals_the_first_goes_on_and_what_diverged_does_not():
    settings_ = grid((1e-5, 1e-4), (1.0, 2.0))
    assert search(settings_, TUNE, lambda s, n, i: 1.0, 9).best == settings_[0]
    costs = dict(zip(settings_, (math.nan, math.inf, 7.0, 9.0), strict=True))
    found = search(settings_, TUNE, lambda s, n, i: costs[s], 9)
    assert found.best == settings_[2]
    assert [trial.cost for trial in found.trials] == [math.inf, math.inf, 7.0, 9.0, 7.0]


def test_it_is_deterministic():
    def evaluate(setting, steps, items):
        return distance(setting) / steps

    assert search(grid(), TUNE, evaluate, 30) == search(grid(), TUNE, evaluate, 30)


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ({"settings": []}, Reason.SEARCH_INVALID),
        ({"items": []}, Reason.SEARCH_INVALID),
        ({"steps": 0}, Reason.SEARCH_INVALID),
        ({"factor": 1}, Reason.SEARCH_INVALID),
        ({"items": NAMES}, Reason.SPLIT_CROSSED),
        ({"evaluate": lambda s, n, i: math.nan}, Reason.SEARCH_INVALID),
    ],
)
def test_searches_that_cannot_be_run(given_, reason):
    values = {"settings": grid(), "items": TUNE, "evaluate": lambda s, n, i: 1.0, "steps": 9} | given_
    with pytest.raises(InvalidArgument) as error:
        search(**values)
    assert error.value.reason == reason
