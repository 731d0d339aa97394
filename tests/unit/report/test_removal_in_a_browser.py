"""The page of a removal request as a browser draws it: narrow and wide, light and dark."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from palimpsest.report.removal.curves import read_curves
from palimpsest.report.removal.page import removal_page
from tests.browser import Browser, browsing, needs_browser
from tests.unit.report import removals
from tests.unit.report.test_removal import EVIL

pytestmark = needs_browser

LEAST_CONTRAST = 4.5
"""Of text, by WCAG 2.2, level AA."""

CONTRAST = """(() => {
  const rgb = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = text => rgb(text).map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (!colour.endsWith(', 0)')) return colour;
    }
  };
  const texts = [...document.querySelectorAll(
    'h1, h2, p, small, dt, dd, th, td, figcaption, summary, pre, footer, text')];
  return Math.min(...texts.map(element => {
    const style = getComputedStyle(element);
    const pair = [light(element.tagName == 'text' ? style.fill : style.color), light(ground(element))];
    return (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
  }));
})()"""

CUT_OFF = """[...document.querySelectorAll('svg text')].filter(text => {
  const own = text.getBoundingClientRect(), all = text.ownerSVGElement.getBoundingClientRect();
  return own.left < all.left - 1 || own.right > all.right + 1 || own.top < all.top - 1 || own.bottom > all.bottom + 1;
}).map(text => text.textContent)"""

SMALLEST = """Math.min(...[...document.querySelectorAll('svg text')].map(text =>
  parseFloat(getComputedStyle(text).fontSize) * text.ownerSVGElement.getBoundingClientRect().width / 340))"""

OPEN = "document.querySelectorAll('details').forEach(each => each.open = true)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "page.html"
    file.write_text(removal_page(removals.request(), read_curves(removals.curve())), encoding="utf-8")
    return file


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_readable(browser, page, width, dark):
    tab = browser.tab()
    tab.open(page, width, dark=dark)
    tab.evaluate(OPEN)
    assert tab.requested == [page.as_uri()]
    assert tab.errors == []
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate(CONTRAST) >= LEAST_CONTRAST
    assert tab.evaluate(CUT_OFF) == []
    assert tab.evaluate(SMALLEST) >= 10
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(25, 24, 21)" if dark else "rgb(253, 252, 249)")


@pytest.mark.parametrize("width", [360, 1280])
def test_a_screen_reader_gets_drawings_and_tables(browser, page, width):
    tab = browser.tab()
    tab.open(page, width)
    tab.evaluate(OPEN)
    nodes = tab.send("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node["ignored"]:
            roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    drawn = roles.get("img", []) + roles.get("image", [])
    assert len(drawn) == tab.evaluate("document.querySelectorAll('svg').length") == 10
    assert all(drawn)
    assert {"The six axes", "Criteria", "Measurements", "Attacks", "Stores", "Data sets"} <= set(
        roles["table"]
    )
    # Narrow, rows are drawn as cards, and are rows all the same.
    assert len(roles["row"]) == tab.evaluate("document.querySelectorAll('tr').length")
    assert {"criterion", "target", "finding"} <= set(roles["columnheader"])


def test_what_anybody_says_is_not_run(browser, tmp_path):
    found = removals.request()
    found.plan.model = found.plan.references[0] = found.result.stores[0].name = EVIL
    found.result.attacks[0].attack = found.result.measurements[0].metric = EVIL
    curves = json.loads(removals.curve()) | {"ended": EVIL}
    file = tmp_path / "page.html"
    file.write_text(removal_page(found, read_curves(json.dumps(curves).encode())), encoding="utf-8")
    tab = browser.tab()
    tab.open(file, 1280)
    assert tab.evaluate("typeof window.hit") == "undefined"
    assert tab.requested == [file.as_uri()]
    assert "window.hit = 1" in tab.evaluate("document.body.innerText")
