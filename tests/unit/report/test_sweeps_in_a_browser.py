"""The page of a sweep as a browser draws it: narrow and wide, light and dark, by mouse and by keys."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from palimpsest.report.grafting.page import sweep_page
from palimpsest.report.grafting.table import read_table
from palimpsest.report.removal.page import removal_page
from tests.browser import Browser, Tab, browsing, needs_browser
from tests.unit.report import removals, sweeps
from tests.unit.report.test_removal_in_a_browser import CONTRAST, LEAST_CONTRAST, OPEN

pytestmark = needs_browser

TEXTS = CONTRAST.replace("'h1, h2", "'h1, h2, h3, label, output, bdi, .legend, .read div")
assert TEXTS != CONTRAST
WITHOUT_CELLS = (
    "document.querySelectorAll('.map td').forEach(cell => cell.remove())"  # which have no text to see
)

COLOURS = """[...document.querySelectorAll('table.map')[0].querySelectorAll('td')].map(
  cell => getComputedStyle(cell).backgroundColor)"""
LIGHTNESS = """(() => {
  const of = v => {
    const cell = document.querySelector('table.map td:not(.unset)');
    cell.style.setProperty('--v', v);
    return Number(getComputedStyle(cell).backgroundColor.match(/oklab\\(([\\d.]+)/)[1]);
  };
  return [-100, -50, 0, 50, 100].map(of);
})()"""
VALUE = "document.getElementById('value').textContent"
MORE = "document.getElementById('more').textContent"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sweep") / "page.html"
    file.write_text(sweep_page(read_table(sweeps.encoded(sweeps.odd()))), encoding="utf-8")
    return file


def press(tab: Tab, *keys: str) -> None:
    for key in keys:
        for kind in ("rawKeyDown", "keyUp"):
            tab.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)


def opened(browser: Browser, page: Path, width: int = 1280, *, dark: bool = False) -> Tab:
    tab = browser.tab()
    tab.send(
        "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
    )
    tab.open(page, width, dark=dark)
    return tab


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_readable_without_a_network(browser, tmp_path, width, dark):
    file = tmp_path / "page.html"
    file.write_text(sweep_page(read_table(sweeps.encoded(sweeps.table()))), encoding="utf-8")
    tab = opened(browser, file, width, dark=dark)
    tab.evaluate(OPEN)
    assert tab.requested == [file.as_uri()]
    assert tab.errors == []
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    # Both ends differ from the middle by lightness, which all eyes see, and each way it only rises or falls.
    low, lower, middle, higher, high = tab.evaluate(LIGHTNESS)
    away = 1 if dark else -1
    assert away * (low - lower) > 0.05
    assert away * (lower - middle) > 0.05
    assert away * (higher - middle) > 0.05
    assert away * (high - higher) > 0.05
    tab.evaluate(WITHOUT_CELLS)
    assert tab.evaluate(TEXTS) >= LEAST_CONTRAST


def test_the_arrow_keys_move_a_cursor_whose_cell_is_read_out(browser, page):
    tab = opened(browser, page)
    tab.evaluate("document.querySelector('table.map td[tabindex]').focus()")
    assert tab.evaluate(VALUE) == "<s>, layer 0: Recovery not set"
    assert tab.evaluate("document.getElementById('value').getAttribute('aria-live')") == "polite"
    press(tab, "ArrowRight")
    cell = sweeps.odd()["cases"][0]["cells"][2]
    assert tab.evaluate(VALUE) == "<s>, layer 1: Recovery −∞"
    assert f"Rank {cell['reading']['rank']}" in tab.evaluate(MORE)
    press(tab, "ArrowDown", "ArrowDown", "End", "ArrowRight", "ArrowLeft")
    assert tab.evaluate(VALUE).startswith("␣light, layer 2: Recovery ")
    press(tab, "Home", "ArrowUp")
    assert tab.evaluate(VALUE).startswith("␣The, layer 0: ")
    assert (
        tab.evaluate("document.querySelectorAll('table.map')[0].querySelectorAll('[tabindex]').length") == 1
    )
    assert tab.errors == []


def test_the_reading_can_be_switched_by_keys_and_the_mouse_reads_too(browser, page):
    tab = opened(browser, page)
    before = tab.evaluate(COLOURS)
    tab.evaluate("document.querySelector('[name=measure]:checked').focus()")
    press(tab, "ArrowRight")
    assert tab.evaluate("document.querySelector('[name=measure]:checked').value") == "logprob"
    assert tab.evaluate(VALUE) == "Shown: Log-probability"
    assert tab.evaluate(COLOURS) != before
    shown = (
        "[...document.querySelectorAll('.legend')].filter(l => l.checkVisibility()).map(l => l.dataset.of)"
    )
    assert tab.evaluate(shown) == ["logprob"]
    x, y = tab.evaluate("""(() => {
      const cell = document.querySelector('table.map td[data-c="2"]');
      cell.scrollIntoView({block: 'center'});
      const box = cell.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    })()""")
    tab.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert tab.evaluate(VALUE) == "<s>, layer 1: Log-probability −∞"
    assert tab.errors == []


def test_what_is_not_set_looks_like_no_value(browser, page):
    tab = opened(browser, page)
    looks = [
        tab.evaluate(f"getComputedStyle(document.querySelector('{cell}')).backgroundImage")
        for cell in ('td[data-c="0"]', 'td[data-c="1"]', ".map td.none")
    ]
    assert "repeating-linear-gradient" in looks[0]
    assert looks[1:] == ["none", "none"]
    shown = tab.evaluate("""(name => {
      const box = document.querySelector(`[value=${name}]`);
      box.click();
      return document.querySelectorAll('table.map td.unset').length;
    })('kl_base')""")
    assert shown == 1


def test_what_a_token_says_is_not_run(browser, page):
    tab = opened(browser, page)
    tab.evaluate("document.querySelector('table.map td[tabindex]').focus()")
    press(tab, *["ArrowDown"] * 9)
    assert tab.evaluate(VALUE).startswith("</script><img␣src=x")
    assert tab.evaluate("typeof window.hit") == "undefined"
    assert tab.requested == [page.as_uri()]
    injected = "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 1\">')"
    tab.evaluate(injected)
    assert tab.evaluate("typeof window.hit") == "undefined", "the page's own policy forbids it too"


@pytest.mark.parametrize("width", [390, 1280])
def test_a_screen_reader_gets_a_grid_with_headers(browser, page, width):
    tab = opened(browser, page, width)
    nodes = tab.send("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node["ignored"]:
            roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert roles["grid"] == [f"Recovery by token and layer, grafted: {name}" for name in ("layer", "ffn, o")]
    assert {"␣light", "↵", "⟨202E⟩"} <= set(roles["rowheader"])
    assert {"0", "1", "2", "3"} <= set(roles["columnheader"])
    assert {"Recovery", "Rank", "KL from the donor"} <= set(roles["radio"])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_removals_page_has_its_maps_without_a_script(browser, tmp_path, width, dark):
    request, raw = removals.request(), sweeps.table(cases=1)
    raw["base"]["fingerprint"] = request.result.new_model_fingerprint
    raw["donor"]["fingerprint"] = request.result.model_fingerprint
    file = tmp_path / "page.html"
    file.write_text(removal_page(request, None, read_table(sweeps.encoded(raw))), encoding="utf-8")
    tab = opened(browser, file, width, dark=dark)
    assert tab.errors == []
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert len(set(tab.evaluate(COLOURS))) > 20
    assert tab.evaluate("document.querySelectorAll('script').length") == 0
    tab.evaluate(WITHOUT_CELLS)
    assert tab.evaluate(TEXTS) >= LEAST_CONTRAST
