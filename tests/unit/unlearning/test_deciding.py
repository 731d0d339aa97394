"""The verdict of a request from its measurements: with references, and without."""

import math
from dataclasses import replace

import pytest

from services.unlearning.attacks.outcomes import Failure
from services.unlearning.attacks.recovery import Interval
from services.unlearning.attacks.table import UNLEARNED, Row, Unmeasured
from services.unlearning.metrics.scores import Definition, ItemValue, Score
from services.unlearning.removal.deciding import decide
from services.unlearning.verdicts import Verdict


def auc(value: float) -> Score:
    items = tuple(
        ItemValue(f"{group}-{n}", 0.0, group) for group in ("forget", "holdout") for n in range(100)
    )
    return Score(Definition("auc_min_k", 1, "share", "target"), value, 200, items=items)


def perplexity(value: float) -> Score:
    return Score(Definition("perplexity", 1, "", "lower"), value, 100)


def utility(value: float) -> Score:
    items = tuple(ItemValue(f"kept-{n}", value + n % 2) for n in range(100))
    return Score(Definition("utility", 1, "points", "higher"), value + 0.5, 100, items=items)


@pytest.mark.parametrize(
    ("kept_before", "kept_after", "verdict"),
    [
        (perplexity(8.0), perplexity(8.1), Verdict.REMOVED),
        (perplexity(8.0), perplexity(7.0), Verdict.REMOVED),
        (perplexity(8.0), perplexity(9000.0), Verdict.UTILITY_LOST),
        (perplexity(8.0), perplexity(math.inf), Verdict.DIVERGED),
        (utility(60.0), utility(58.0), Verdict.REMOVED),
        (utility(60.0), utility(0.0), Verdict.UTILITY_LOST),
    ],
)
def test_without_references_what_is_kept_is_compared_with_the_model_before(kept_before, kept_after, verdict):
    """A model that says nothing any more has a membership score of chance, which alone would be a removal."""
    found = decide([auc(0.05), kept_before], [auc(0.5), kept_after], {}, [])
    assert (found.verdict, found.reference) == (verdict, "holdout_calibrated")


@pytest.mark.parametrize(("after", "verdict"), [(60.0, Verdict.UNDECIDED), (0.0, Verdict.UTILITY_LOST)])
def test_what_is_kept_alone_says_nothing_of_the_removal(after, verdict):
    found = decide([utility(60.0)], [utility(after)], {}, [])
    assert (found.verdict, found.reference) == (verdict, "none")


def test_with_references_what_is_kept_is_compared_with_them():
    references = {"never": [auc(0.5), perplexity(20.0)]}
    found = decide([auc(0.05), perplexity(8.0)], [auc(0.5), perplexity(20.0)], references, [])
    assert (found.verdict, found.reference) == (Verdict.REMOVED, "retrained")


def test_an_attack_that_could_not_be_measured_speaks_neither_for_nor_against_the_removal():
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    diverged = Unmeasured(UNLEARNED, Failure("TRAINING_DIVERGED", "It diverged."))
    row = Row(
        "relearn/retain", "verbmem", 20.0, math.nan, nothing, None, nothing, (30.0,), None,
        recovered=False, tolerated=None, bound=math.nan, unmeasured=(diverged,),
    )  # fmt: skip
    references = {"never": [auc(0.5), perplexity(20.0)]}
    scores = [auc(0.05), perplexity(8.0)], [auc(0.5), perplexity(20.0)]
    assert decide(*scores, references, [row]).verdict is Verdict.REMOVED
    recovered = replace(row, gain=Interval(40.0, 30.0, 50.0, 50), recovered=True, unmeasured=())
    assert decide(*scores, references, [row, recovered]).verdict is Verdict.PARTLY_REMOVED
    assert decide(*scores, references, [replace(recovered, tolerated=True)]).verdict is Verdict.REMOVED
