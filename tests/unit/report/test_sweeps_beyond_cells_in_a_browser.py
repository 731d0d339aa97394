"""Estimates, values of segments and means on the page of a sweep, as a browser draws them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from palimpsest.report.grafting.page import sweep_page
from palimpsest.report.grafting.table import read_table
from palimpsest.report.grafting.views import SweepView
from palimpsest.report.page import html_page
from tests.browser import Browser, browsing, needs_browser
from tests.unit.report import sweeps
from tests.unit.report.test_removal_in_a_browser import CUT_OFF, LEAST_CONTRAST, OPEN, SMALLEST
from tests.unit.report.test_sweeps_in_a_browser import MORE, TEXTS, VALUE, WITHOUT_CELLS, opened, press

pytestmark = needs_browser

TABLES = {
    "preview": sweeps.previewed(),
    "both": sweeps.previewed(everything=True),
    "segments": sweeps.valued(),
    "contrast": sweeps.contrasted(),
}
CHECKED = "document.querySelector('[name=measure]:checked').value"
MARKS = """[...document.querySelectorAll('svg [class]')].filter(each =>
  ['rect', 'circle'].includes(each.tagName)).filter(each => {
    const own = each.getBoundingClientRect(), all = each.ownerSVGElement.getBoundingClientRect();
    return own.left < all.left - 1 || own.right > all.right + 1 || own.top < all.top - 1 || own.bottom > all.bottom + 1;
  }).length"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sweeps")
    for name, raw in TABLES.items():
        text = sweep_page(read_table(sweeps.encoded(raw)))
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in TABLES}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", TABLES)
def test_it_is_readable_without_a_network(browser, pages, name, width, dark):
    tab = opened(browser, pages[name], width, dark=dark)
    tab.evaluate(OPEN)
    assert tab.requested == [pages[name].as_uri()]
    assert tab.errors == []
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate(CUT_OFF) == []
    assert tab.evaluate(MARKS) == 0
    smallest = tab.evaluate(SMALLEST)
    assert name == "contrast" if smallest is None else smallest >= 10  # that page has no drawing
    assert tab.evaluate("typeof window.hit") == "undefined"
    tab.evaluate(WITHOUT_CELLS)
    assert tab.evaluate(TEXTS) >= LEAST_CONTRAST


def test_a_preview_shows_estimates_first_and_says_of_each_cell_whether_it_was_grafted(browser, pages):
    tab = opened(browser, pages["preview"])
    assert tab.evaluate(CHECKED) == "estimate"
    cells = TABLES["preview"]["cases"][0]["cells"]
    estimated = next(at for at, cell in enumerate(cells) if "reading" not in cell)
    exact = next(at for at, cell in enumerate(cells) if "reading" in cell)
    ring = "getComputedStyle(document.querySelector('td[data-c=\"{}\"]'), '::after').width"
    assert [tab.evaluate(ring.format(at)) for at in (exact, estimated)] == ["6px", "auto"]
    tab.evaluate(f"document.querySelector('td[data-c=\"{estimated}\"]').click()")
    assert "Estimated change" in tab.evaluate(VALUE)
    assert "Only estimated: " in tab.evaluate(MORE)
    tab.evaluate(f"document.querySelector('td[data-c=\"{exact}\"]').click()")
    assert f"Rank {cells[exact]['reading']['rank']}" in tab.evaluate(MORE)
    tab.evaluate("document.querySelector('[value=recovery]').click()")
    unset = "document.querySelectorAll('.case')[0].querySelectorAll('td.unset').length"
    assert tab.evaluate(unset) == sum("reading" not in cell for cell in cells)
    assert tab.errors == []


def test_where_all_cells_are_grafted_readings_come_first_and_estimates_can_be_chosen(browser, pages):
    tab = opened(browser, pages["both"])
    assert tab.evaluate(CHECKED) == "recovery"
    tab.evaluate("document.querySelector('[value=estimate]').click()")
    assert tab.evaluate("document.querySelector('table.map').classList.contains('diverging')")
    tab.evaluate("document.querySelector('[value=rank]').click()")
    assert not tab.evaluate("document.querySelector('table.map').classList.contains('diverging')")
    assert tab.errors == []


@pytest.mark.parametrize(
    ("name", "fold"), [("preview", "30 cells in figures"), ("segments", "All 32 means in figures")]
)
def test_figures_behind_a_drawing_open_by_keys(browser, pages, name, fold):
    tab = opened(browser, pages[name], 390)
    found = f"[...document.querySelectorAll('summary')].find(each => each.textContent === '{fold}')"
    tab.evaluate(f"{found}.focus()")
    assert tab.evaluate(f"document.activeElement === {found}")
    for kind in ("keyDown", "keyUp"):
        tab.send(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            text="\r",
            windowsVirtualKeyCode=13,
        )
    assert tab.evaluate(f"{found}.parentElement.open")
    assert tab.evaluate(f"{found}.parentElement.querySelectorAll('tbody tr').length") >= 30
    assert tab.evaluate("document.documentElement.scrollWidth") == 390


def test_a_screen_reader_is_told_what_is_drawn(browser, pages):
    for name, wanted in (("preview", "Grafts over estimates"), ("segments", "Shapley values of segments")):
        tab = opened(browser, pages[name])
        nodes = tab.send("Accessibility.getFullAXTree")["nodes"]
        drawn = [
            n["name"]["value"] for n in nodes if not n["ignored"] and n["role"]["value"] in ("img", "image")
        ]
        assert any(wanted in each for each in drawn)


def test_a_notebook_shows_the_whole_page_with_its_keys(browser, tmp_path):
    view = SweepView(read_table(sweeps.encoded(TABLES["preview"])))
    file = tmp_path / "notebook.html"
    file.write_text(html_page("notebook", "", view._repr_html_()), encoding="utf-8")
    tab = opened(browser, file)
    assert tab.errors == []
    assert tab.evaluate("document.querySelector('iframe').getBoundingClientRect().height") == 900
    assert tab.evaluate("document.querySelector('iframe').contentDocument") is None, "it is of another origin"
    tab.evaluate("document.querySelector('iframe').focus()")
    press(tab, "Tab")
    assert tab.errors == []
