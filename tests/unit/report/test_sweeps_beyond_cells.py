"""What a sweep says beyond its cells, for readers: estimates beside grafts, values of segments, means, sets."""

import html
import json
import math
import re

import numpy as np
import pytest

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.report.grafting import charts, columns, contrasts, estimates, segments, words
from palimpsest.report.grafting.pathways import paths_of
from palimpsest.report.grafting.scales import shades_of
from palimpsest.report.grafting.views import SweepView
from tests.unit.report import sweeps
from tests.unit.report.test_sweeps import Page, sweep_page, table


def grafted(raw: dict) -> list[dict]:
    return [cell for cell in raw["cases"][0]["cells"] if "reading" in cell]


def test_cells_that_were_only_estimated_have_no_reading_and_are_on_no_path():
    raw = sweeps.previewed()
    (case, _) = table(raw).cases
    assert case.estimated
    assert case.partly_exact
    assert [cell.exact for cell in case.cells] == ["reading" in cell for cell in raw["cases"][0]["cells"]]
    assert all(found.cell.exact for found in paths_of(case))
    whole = table(sweeps.previewed(everything=True)).cases[0]
    assert not whole.partly_exact
    assert words.measures_of(table(raw))[0] is words.ESTIMATE
    assert words.measures_of(table(sweeps.previewed(everything=True)))[-1] is words.ESTIMATE
    assert words.measures_of(table(sweeps.odd())) == words.MEASURES


def test_a_cell_with_neither_reading_nor_estimate_is_refused():
    raw = sweeps.table(cases=1, layers=2)
    del raw["cases"][0]["cells"][0]["reading"]
    with pytest.raises(InvalidArgument, match="'reading' is missing"):
        table(raw)
    with pytest.raises(InvalidArgument, match="'threshold' is missing"):
        table(sweeps.previewed() | {"previews": [{"case": 0, "cells": 1, "top": 1, "random": 0}]})


def test_estimates_are_as_far_to_both_sides_of_zero():
    (case, _) = table(sweeps.previewed()).cases
    most = max(abs(cell.reading.values["estimate"] or 0.0) for cell in case.cells)
    scale = shades_of(case, "estimate")
    assert (scale.low, scale.high, scale.of(0.0), scale.of(most)) == (-most, most, 0, 100)


@pytest.mark.parametrize("everything", [False, True])
def test_points_are_the_grafted_cells_by_why_they_were_grafted(everything: bool):
    raw = sweeps.previewed(everything=everything)
    read = table(raw)
    check = estimates.check_of(read, 0)
    assert check is not None
    points = estimates.points_of(read.cases[0], check)
    base = raw["cases"][0]["base"]["logprob"]
    cells = grafted(raw)
    assert [p.estimate for p in points] == [cell["estimate"] for cell in cells]
    assert [p.change for p in points] == [float(cell["reading"]["logprob"]) - base for cell in cells]
    least = sorted((c["estimate"] for c in raw["cases"][0]["cells"]), reverse=True)[check.top - 1]
    other = "other" if everything else "random"
    assert [p.kind for p in points] == ["largest" if p.estimate >= least else other for p in points]
    assert len(estimates.drawn_of(points)) == len(points) - 1, "one has an infinite change"


def test_strength_decides_what_was_largest():
    raw = sweeps.previewed()
    for cell in raw["cases"][0]["cells"]:
        cell["strength"] = -cell["estimate"]
    read = table(raw)
    check = estimates.check_of(read, 0)
    assert check is not None
    kinds = {p.kind for p in estimates.points_of(read.cases[0], check) if p.estimate > 0}
    assert kinds == {"random"}


def test_the_page_draws_every_check_and_says_what_it_bounds():
    page = sweep_page(table(sweeps.previewed()))
    drawing = page[page.index('aria-labelledby="preview0-t') : page.index("</svg>")]
    assert (drawing.count("mark after"), drawing.count("mark before")) == (20, 9)
    for text in (
        "30 of 168 cells were grafted: the 20 with the largest estimates, and 10 of the others drawn at random.",
        "0.9871, over the random ones",
        "at most 41 of the 148 other cells change more than the tenth largest graft (1.75 nats).",
        "Of the 10 drawn, 1 does.",
        "0.31 nats, among the random ones",
        "Not set: too few cells, or all alike.",
        "Not drawn: 1 of infinite change.",
    ):
        assert text in page
    assert page.count('class="exact"') > 30, "cells that were grafted are marked on the maps"
    both = sweep_page(table(sweeps.previewed(everything=True)))
    assert "All 168 cells were grafted after they were estimated." in both
    assert "0.9871, over all cells" in both
    assert 'class="exact"' not in both
    assert both.count('class="dot"') == 2 * 148 - 2


def test_of_many_points_all_checked_ones_are_drawn():
    case = table(sweeps.previewed(everything=True)).cases[0]
    cell = case.cells[0]
    points = [estimates.Point(cell, 0.0, 0.0, "other")] * 5000 + [
        estimates.Point(cell, 1.0, 1.0, "largest")
    ] * 7
    drawn = estimates.drawn_of(points)
    assert sum(point.kind == "largest" for point in drawn) == 7
    assert 1000 < len(drawn) < 1600


def test_the_page_holds_estimates_checks_and_means_as_the_table_has_them():
    for raw in (sweeps.previewed(), sweeps.valued()):
        found = json.loads(Page(sweep_page(table(raw))).figures)
        for name in ("previews", "summaries", "sufficient"):
            assert found[name] == raw[name]
        for case, told in zip(raw["cases"], found["cases"], strict=True):
            assert told["values"] == case.get("values", [])
            assert told["cells"]["exact"] == [int("reading" in cell) for cell in case["cells"]]
            if raw["previews"]:
                assert told["cells"]["estimate"] == [cell["estimate"] for cell in case["cells"]]


def test_what_a_segment_adds_last_is_what_all_have_more_than_all_but_it():
    raw = sweeps.valued()
    values = table(raw).cases[0].values[0]
    whole = sum(each["shapley"] for each in raw["cases"][0]["values"][0]["segments"])
    without = [each["without"] for each in raw["cases"][0]["values"][0]["segments"]]
    assert segments.last_of(values) == pytest.approx([whole - each for each in without])


def test_values_means_and_sets_are_on_the_page_in_figures():
    raw = sweeps.valued()
    page = sweep_page(table(raw))
    for value in raw["cases"][0]["values"]:
        for each in value["segments"]:
            for name in ("shapley", "alone", "without"):
                assert words.shown(each[name]) in page
    for each in raw["summaries"]:
        assert f"{words.shown(each['low'])} to {words.shown(each['high'])}" in page
    assert "Shapley value of entity" in page
    assert "interaction of entity × last" in page
    assert "all together are not enough" in page
    assert "Base and donor are equally probable, so there is no recovery to divide." in page
    assert sweeps.EVIL not in page
    assert "<img" not in page.replace(html.escape(sweeps.EVIL), "")


def test_bars_begin_at_zero_and_intervals_are_where_they_say():
    rows = [segments.Row("a", 0.5, bar=True), segments.Row("b", -0.25, -0.5, 0.25, bar=False)]
    drawing = segments.rows_drawn("k", "t", rows)
    (zero,) = re.findall(r'<line x1="([\d.]+)"[^>]*class="ring"', drawing)
    left, width = map(float, re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', drawing)[0])
    low, high = map(float, re.findall(r'<line x1="([\d.]+)"[^>]* x2="([\d.]+)"[^>]*whisker', drawing)[0])
    assert left == pytest.approx(float(zero), abs=0.11)
    assert (high - low) / width == pytest.approx(0.75 / 0.5, rel=0.01)


def widths(axes) -> list[float]:
    return [bar.get_width() for bar in axes.patches]


def test_pictures_have_the_numbers_of_the_table():
    raw = sweeps.previewed()
    axes = charts.draw_estimates(table(raw), 0).axes[0]
    drawn = np.concatenate([np.asarray(each.get_offsets()) for each in axes.collections])
    base = raw["cases"][0]["base"]["logprob"]
    wanted = [(c["estimate"], float(c["reading"]["logprob"]) - base) for c in grafted(raw)]
    finite = sorted(pair for pair in wanted if math.isfinite(pair[1]))
    assert np.allclose(sorted(map(tuple, drawn)), finite)
    raw = sweeps.valued()
    plots = charts.draw_segments(table(raw), 0).axes
    assert len(plots) == 2 * len(raw["cases"][0]["values"])
    for (left, right), values in zip(
        zip(plots[::2], plots[1::2], strict=True), raw["cases"][0]["values"], strict=True
    ):
        assert widths(left) == [each["shapley"] for each in values["segments"]]
        assert widths(right) == [each["value"] for each in values["interactions"]]


@pytest.mark.parametrize("draw", [charts.draw_estimates, charts.draw_segments])
def test_pictures_of_what_a_sweep_lacks_are_refused(draw):
    with pytest.raises(InvalidArgument, match="palimpsest graft sweep") as refused:
        draw(table(sweeps.odd()), 0)
    assert refused.value.reason == Reason.INVALID_REQUEST


@pytest.mark.parametrize(
    ("way", "back", "word"),
    [
        (0.8, True, "hidden"),
        (0.2, True, "not found"),
        (0.8, False, "pushed out"),
        (0.2, False, "still there"),
    ],
)
def test_a_contrast_comes_back_or_is_pushed_out_or_neither(way: float, back: bool, word: str):
    (case,) = table(sweeps.contrasted(way, back)).cases
    found = contrasts.finding_of(case)
    assert found is not None
    assert found.word == word
    assert f"{words.shown(way)} of the way" in found.sentence
    page = sweep_page(table(sweeps.contrasted(way, back)))
    assert f"<b>{word}</b>: " in page
    assert sweeps.EVIL not in page


def test_a_contrast_that_both_models_find_equally_probable_tells_nothing():
    raw = sweeps.contrasted()
    raw["cases"][0]["contrast"]["donor"] = raw["cases"][0]["contrast"]["base"]
    found = contrasts.finding_of(table(raw).cases[0])
    assert found is not None
    assert found.word == "nothing to tell"
    assert contrasts.finding_of(table(sweeps.odd()).cases[0]) is None


def test_margins_are_the_tables_on_the_page_and_in_columns():
    raw = sweeps.contrasted()
    read = table(raw)
    (case,) = raw["cases"]
    margins = [cell["contrast"]["margin"] for cell in case["cells"]]
    others = [cell["contrast"]["reading"]["logprob"] for cell in case["cells"]]
    told = json.loads(Page(sweep_page(read)).figures)["cases"][0]
    assert (told["cells"]["margin"], told["cells"]["contrast_logprob"]) == (margins, others)
    held = columns.columns_of(read)
    assert (held["margin"], held["contrast_logprob"]) == (margins, others)
    assert read.cases[0].base.values["margin"] == case["contrast"]["base_margin"]
    most = max(map(abs, [*margins, case["contrast"]["base_margin"], case["contrast"]["donor_margin"]]))
    assert shades_of(read.cases[0], "margin")[:3] == (-most, most, True)
    assert words.measures_of(read)[-2:] == words.CONTRASTS


def test_a_notebook_shows_the_page_in_a_frame_of_its_own():
    raw = sweeps.previewed()
    done = pb.GraftSweep(row_layers=27, naive_row_layers=100)
    done.table.digest = "sha256:" + "12" * 32
    asked = []

    def read(digest: str) -> bytes:
        asked.append(digest)
        return sweeps.encoded(raw)

    view = SweepView.of(done, read)
    assert asked == [done.table.digest]
    frame = view._repr_html_()
    (inner,) = re.findall(r'srcdoc="([^"]*)"', frame)
    assert html.unescape(inner) == view.page
    assert "27 of 100" in view.page
    assert 'sandbox="allow-scripts"' in frame
    assert repr(view) == "<sweep of smollm2-keeper in smollm2-135m: 336 cells, 2 cases>"
