import json
import math

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from palimpsest.errors import InvalidArgument
from services.unlearning.metrics.intervals import Bootstrap
from services.unlearning.metrics.scores import Definition, ItemValue, Score, mean_score
from services.unlearning.metrics.tables import as_json, as_markdown, as_table, item_lines

SHARE = Definition("remembered", 2, "percent", "lower")


def test_intervals_are_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).exponential(size=80)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=9999, rng=1
    ).confidence_interval
    low, high = Bootstrap().mean(values)
    width = expected.high - expected.low
    assert low == pytest.approx(expected.low, abs=0.05 * width)
    assert high == pytest.approx(expected.high, abs=0.05 * width)
    narrow = Bootstrap(confidence=0.5).mean(values)
    assert low < narrow[0] < values.mean() < narrow[1] < high


def test_a_resample_is_a_draw_with_replacement():
    def check(weights: np.ndarray) -> np.ndarray:
        counts = weights * 7
        np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
        np.testing.assert_allclose(counts.sum(1), 7)
        assert len(np.unique(counts.round(), axis=0)) > 100
        return weights[:, 0]

    assert Bootstrap(resamples=500).interval(check, [7])[0] == 0


def test_equal_seeds_have_equal_intervals_which_are_as_wide_as_theory_says():
    values = np.random.default_rng(1).normal(size=400)
    low, high = Bootstrap(seed=4).mean(values)
    assert Bootstrap(seed=4).mean(values) == (low, high)
    assert Bootstrap(seed=5).mean(values) != (low, high)
    assert (high - low) / 2 == pytest.approx(1.96 / math.sqrt(400), rel=0.1)


def test_one_item_and_no_resamples_are_fine():
    assert Bootstrap().mean([0.3]) == (pytest.approx(0.3), pytest.approx(0.3))
    assert Bootstrap(resamples=0).mean([0.3, 0.4]) is None


def test_a_score_takes_its_target_from_the_reference_of_the_same_metric():
    ours = mean_score(SHARE, {"a": 10.0, "b": 30.0}, None, "muse")
    theirs = mean_score(SHARE, {"a": 20.0, "b": 20.0}, None, "muse")
    against = ours.against(theirs, "models/retrained")
    assert (against.target, against.reference, against.value) == (20.0, "models/retrained", 20.0)
    for other in (
        mean_score(SHARE, {"a": 1.0}, None, "tofu"),
        mean_score(Definition("remembered", 1, "percent", "lower"), {"a": 1.0}, None, "muse"),
    ):
        with pytest.raises(InvalidArgument, match="remembered version 2"):
            ours.against(other, "models/retrained")


SCORES = [
    Score(
        SHARE, 12.345, 2, (10.0, 15.5), "muse", (ItemValue("a", 1.0), ItemValue("b", 23.69)), 20.0, "models/r"
    ),
    Score(Definition("quality", 1, "p-value", "higher"), 4.4e-25, 40),
    Score(
        Definition("leak", 1, "share", "target", target=0.0),
        math.inf,
        3,
        items=(ItemValue("c", 0.5, "forget"),),
    ),
]


def test_json_has_every_field_of_the_results_format_and_no_number_that_json_lacks():
    rows = json.loads(json.dumps(as_json(SCORES, "items.jsonl"), allow_nan=False))
    assert rows[0] == {
        "metric_id": "remembered",
        "definition_version": 2,
        "value": 12.345,
        "unit": "percent",
        "ci_lo": 10.0,
        "ci_hi": 15.5,
        "n": 2,
        "direction": "lower",
        "target": 20.0,
        "convention": "muse",
        "reference_id": "models/r",
        "per_item_file": "items.jsonl",
    }
    assert (rows[1]["ci_lo"], rows[1]["target"], rows[1]["per_item_file"]) == (None, None, "")
    assert (rows[2]["value"], rows[2]["target"]) == (None, 0.0)


def test_item_lines_name_metric_item_and_group():
    assert list(item_lines(SCORES)) == [
        {"metric_id": "remembered", "convention": "muse", "id": "a", "value": 1.0},
        {"metric_id": "remembered", "convention": "muse", "id": "b", "value": 23.69},
        {"metric_id": "leak", "convention": "", "id": "c", "group": "forget", "value": 0.5},
    ]


def test_tables_say_the_same_in_markdown_and_in_a_terminal():
    lines = as_markdown(SCORES).splitlines()
    assert lines[0] == "| metric | value | 95 % interval | target | better | n | convention |"
    assert lines[2] == "| remembered | 12.3 % | 10.0 to 15.5 | 20.0 | lower | 2 | muse |"
    assert lines[3] == "| quality | 4.40e-25 |  |  | higher | 40 |  |"
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(as_table(SCORES, "Removal"))
    shown = console.export_text()
    assert "12.3 %" in shown
    assert "4.40e-25" in shown
