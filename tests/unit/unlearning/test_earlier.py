"""Values of the items that later requests measure again, and the verdict where data has come back."""

import re

import numpy as np
import pytest

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.cli.unlearn.reports import show
from services.unlearning.metrics.scores import Definition, ItemValue, Score
from services.unlearning.removal.deciding import decide
from services.unlearning.removal.earlier import baseline
from services.unlearning.removal.measuring import MOST_ATTACKED, rechecked_values
from services.unlearning.verdicts import Verdict
from tests.unit.unlearning.test_deciding import auc, perplexity, utility


def score(metric: str, count: int) -> Score:
    items = tuple(ItemValue(f"item-{n}", float(n)) for n in range(count))
    return Score(Definition(metric, 1, "percent", "lower"), (count - 1) / 2, count, items=items)


def test_later_requests_look_at_a_fixed_part_of_the_items():
    found = baseline([score("verbmem", 200), score("knowmem", 3), auc(0.5), utility(3.0)])
    assert [(each.metric, each.count) for each in found] == [("verbmem", MOST_ATTACKED), ("knowmem", 3)]
    assert found[1].value == 1.0
    some = rechecked_values(score("verbmem", 200))
    fewer = rechecked_values(score("verbmem", 120))
    assert found[0].value == some.mean() == pytest.approx(99.5, abs=30)
    # The part of fewer items has those of more that it has at all: which items they are does not depend on the others.
    assert set(some[some < 120]) <= set(fewer)
    assert len(np.unique(some)) == MOST_ATTACKED


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ([auc(0.5), perplexity(8.0)], Verdict.PARTLY_REMOVED),
        ([auc(0.06), perplexity(8.0)], Verdict.NOT_REMOVED),
        ([auc(0.5), perplexity(9000.0)], Verdict.PARTLY_REMOVED),
        ([perplexity(8.0)], Verdict.PARTLY_REMOVED),
        ([], Verdict.PARTLY_REMOVED),
    ],
)
def test_what_has_come_back_is_partly_removed_at_best(after, verdict):
    before = {1: [perplexity(8.0)], 2: [auc(0.05), perplexity(8.0)], 0: []}[len(after)]
    assert decide(before, after, {}, [], reemerged=True).verdict is verdict
    assert decide(before, after, {}, []).verdict is not Verdict.PARTLY_REMOVED


def test_the_report_says_what_came_back_and_what_was_not_looked_at(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    result = pb.Result(verdict=pb.VERDICT_PARTLY_REMOVED, other_requests=2, utility_budget=10)
    result.utility_loss, result.total_utility_loss = 1.5, 4.25
    result.earlier_requests.add(name="removalRequests/a", metric="verbmem", then=12.5, now=40, reemerged=True)
    result.earlier_requests.add(name="removalRequests/b", metric="knowmem", then=3, now=0)
    result.earlier_requests.add(
        name="removalRequests/c", metric="verbmem", then=3, skipped="data_set_deleted"
    )
    result.trials.add(learning_rate=1e-4, steps=7, cost=float("inf"))
    result.trials.add(learning_rate=1e-5, steps=21, round=1, cost=3, chosen=True)
    show(pb.RemovalRequest(name="removalRequests/d", state=pb.REMOVAL_STATE_SUCCEEDED, result=result))
    printed = capsys.readouterr()
    cells = [[cell.strip() for cell in re.split("[│┃|]", line)] for line in printed.out.splitlines()]
    rows = [[cell for cell in row if cell] for row in cells]
    assert ["removalRequests/a", "verbmem", "12.5", "40.0", "YES"] in rows
    assert ["removalRequests/b", "knowmem", "3", "0", "no"] in rows
    assert ["removalRequests/c", "verbmem", "3", "not re-checked: data set deleted"] in rows
    assert ["1", "7", "0.0001", "0", "0", "inf"] in rows
    assert ["2", "21", "1e-05", "0", "0", "3", "yes"] in rows
    assert "1.5 points, 4.25 in all of 10 allowed" in printed.out
    assert "did not lead to this model: 2" in " ".join(printed.err.split())
