"""Plots and pages: files that hold what was measured, and a clear word where they cannot be drawn."""

import sys
from html.parser import HTMLParser

import pytest

from palimpsest.errors import FailedPrecondition, InvalidArgument
from palimpsest.report import Curve, LevelPoint, plots
from tests.browser import browsing, needs_browser
from tests.unit.report.test_removal_in_a_browser import CONTRAST, LEAST_CONTRAST

POINTS = [LevelPoint("lossless", 700, 0.7, 0.0), LevelPoint("high", 200, 0.2, 0.01)]
CURVES = [Curve("adaptive", (125_000.0, 1e6), (3.5, 1.25)), Curve("text <b>", (125_000.0, 1e6), (4.0, 4.0))]
BANDWIDTHS = tuple(m * 125_000.0 for m in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000))
WAYS = ("adaptive", "lossless", "near-lossless", "high", "balanced", "compact", "smallest", "recompute")


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.texts, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data.strip())


@pytest.mark.parametrize(("name", "magic"), [("p.png", b"\x89PNG"), ("p.svg", b"<?xml")])
def test_pictures(tmp_path, name, magic):
    path = tmp_path / name
    plots.check(path)
    plots.write(path, "contexts/x", POINTS, CURVES)
    assert path.read_bytes().startswith(magic)


def test_a_page_holds_the_figures_and_needs_nothing_else(tmp_path):
    path = tmp_path / "p.html"
    plots.write(path, "contexts/<x>", POINTS, CURVES)
    text = path.read_text()
    cells = Cells()
    cells.feed(text)
    assert "svg" in cells.tags
    assert "b" not in cells.tags
    assert {"lossless", "70.0%", "0.01", "adaptive", "1.25", "8"} <= set(cells.texts)
    assert "src=" not in text
    assert "<script" not in text


def test_a_pages_drawings_have_the_pages_colours(tmp_path):
    path = tmp_path / "p.html"
    plots.write(path, "contexts/x", POINTS, CURVES)
    text = path.read_text()
    assert text.count("<svg") == 2
    assert "fill: var(--ink)" in text
    assert "stroke: var(--edge)" in text
    drawings = text[text.index("<svg") : text.rindex("</svg>")]
    for ground in ("#ffffff", "#000000", "#1c1b1a"):
        assert ground not in drawings


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_is_readable(tmp_path, width: int, dark: bool):
    path = tmp_path / "p.html"
    curves = [
        Curve(name, BANDWIDTHS, tuple(3e6 / b + at for b in BANDWIDTHS)) for at, name in enumerate(WAYS)
    ]
    plots.write(path, "contexts/" + "a-long-name-" * 5, POINTS, curves)
    with browsing() as browser:
        tab = browser.tab()
        tab.open(path, width, dark=dark)
        assert tab.requested == [path.as_uri()]
        assert tab.errors == []
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate(CONTRAST) >= LEAST_CONTRAST
        tab.screenshot(tmp_path / "page.png")
        sides = tab.evaluate(
            "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().right)"
        )
        assert all(side <= width for side in sides)


def test_what_is_drawn_is_what_was_given():
    left, right = plots.draw("t", POINTS, CURVES).axes
    assert left.lines[0].get_xydata().tolist() == [[70.0, 0.0], [20.0, 0.01]]
    assert right.lines[0].get_xydata().tolist() == [[1.0, 3.5], [8.0, 1.25]]
    assert [line.get_label() for line in right.lines] == ["adaptive", "text <b>"]


def test_kinds_that_cannot_be_written(tmp_path):
    with pytest.raises(InvalidArgument, match="png"):
        plots.check(tmp_path / "p.bmp")


def test_the_extra_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(FailedPrecondition, match=r"palimpsest-lm\[plots\]"):
        plots.check(tmp_path / "p.png")
