"""Estimates of cells beside their grafts: which were grafted, how well they agree, and what may have been missed."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from palimpsest.report import svg
from palimpsest.report.grafting.beyond import Check
from palimpsest.report.grafting.table import Case, Cell, Table
from palimpsest.report.grafting.words import cut, layers_label, row_label, set_label, shown
from palimpsest.report.page import table as html_table

KINDS = {"largest": "among the largest estimates", "random": "drawn at random", "other": "grafted with all"}
_MARKS = {"largest": "after", "random": "before"}
_MOST_POINTS, _MOST_ROWS = 1500, 60
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 330, 12, 268


class Point(NamedTuple):
    """A cell that was estimated and grafted.

    Attributes
    ----------
    cell
        With both.
    estimate, change
        Of the target's log-probability, in nats: estimated, and as grafted.
    kind
        Of ``KINDS``: why it was grafted.
    """

    cell: Cell
    estimate: float
    change: float
    kind: str


def points_of(case: Case, check: Check) -> list[Point]:
    """Cells with an estimate and a graft, in the order of the table.

    The table does not say why a cell was grafted: the largest are found by their estimates (or strengths), as the
    sweep did, and where not all cells are grafted, the others were drawn.
    """

    def size(at: int) -> float:
        values = case.cells[at].reading.values
        found = values.get("strength", values.get("estimate"))
        return -math.inf if found is None else found

    largest = set(sorted(range(len(case.cells)), key=size, reverse=True)[: check.top])
    whole, base = not case.partly_exact, case.base.values.get("logprob")
    found = []
    for at, cell in enumerate(case.cells):
        estimate, own = (cell.reading.values.get(name) for name in ("estimate", "logprob"))
        if estimate is not None and own is not None and base is not None:
            kind = "largest" if at in largest else "other" if whole else "random"
            found.append(Point(cell, estimate, own - base, kind))
    return found


def check_of(table: Table, number: int) -> Check | None:
    """The check of a case; None where nothing was estimated."""
    return next((each for each in table.checks if each.case == number), None)


def preview_section(table: Table, number: int) -> str:
    """The section of a case; empty where nothing was estimated."""
    case, check = table.cases[number], check_of(table, number)
    if check is None:
        return ""
    points, everything = points_of(case, check), not case.partly_exact
    drawing = f"{_caption(points)}{scatter(f'preview{number}', points, check)}"
    return (
        f'<h3>Estimates beside grafts</h3><div class="beside"><figure>{drawing}</figure>'
        f"<div>{_facts(check, everything)}{_table(case, points)}</div></div>"
    )


def sentences(check: Check, everything: bool) -> list[tuple[str, str]]:
    """What a check says, each with its name; ``everything`` is grafted in mode BOTH."""
    others, of = check.cells - check.top, "all cells" if everything else "the random ones"
    grafted = (
        f"All {check.cells} cells were grafted after they were estimated."
        if everything
        else f"{check.top + check.random} of {check.cells} cells were grafted: the {check.top} with the largest "
        f"estimates, and {check.random} of the others drawn at random. The rest are estimates alone."
    )
    told = "Not set: too few cells, or all alike." if check.correlation is None else shown(check.correlation)
    over = "" if check.correlation is None else f", over {of}"
    if everything:
        missed = f"{check.missed_at_most} of the {others} cells below the {check.top} largest estimates"
        missed += f" change more than the tenth largest of those ({shown(check.threshold)} nats)."
    else:
        missed = f"With 95 % confidence, at most {check.missed_at_most} of the {others} other cells change more than "
        missed += f"the tenth largest graft ({shown(check.threshold)} nats). Of the {check.random} drawn, "
        missed += f"{check.random_above} {'does' if check.random_above == 1 else 'do'}."
    return [
        ("Grafted", grafted),
        ("Pearson correlation", told + over),
        ("Missed", missed),
        ("Largest error", f"{shown(check.largest_error)} nats, among the random ones"),
    ]


def _facts(check: Check, everything: bool) -> str:
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in sentences(check, everything)
    )
    return f"<dl>{rows}</dl>"


def _caption(points: Sequence[Point]) -> str:
    there, left = {point.kind for point in points}, len(points) - len(drawn_of(points))
    infinite = sum(not math.isfinite(point.change) for point in points)
    told = f" Not drawn: {infinite} of infinite change." if infinite else ""
    told += f" Of the others {left - infinite} are left out." if left > infinite else ""
    keys = "".join(
        f'<span class="key {_MARKS.get(kind, "other")}">{escape(name)}</span> '
        for kind, name in KINDS.items()
        if kind in there
    )
    return (
        "<figcaption><b>Change of the log-probability, in nats</b><br>"
        f"<small>Across: estimated. Up: grafted. On the line both are equal.{told}</small><br>{keys}</figcaption>"
    )


def drawn_of(points: Sequence[Point]) -> list[Point]:
    """Points that are drawn: finite ones, and of very many all that were checked and every so many others."""
    finite = [p for p in points if math.isfinite(p.estimate) and math.isfinite(p.change)]
    others = [p for p in finite if p.kind == "other"]
    step = max(1, math.ceil(len(others) / _MOST_POINTS))
    return [*others[::step], *(p for p in finite if p.kind != "other")]


def scatter(key: str, points: Sequence[Point], check: Check) -> str:
    """Draw grafts over estimates."""
    drawn = drawn_of(points)
    if not drawn:
        return "<p>No cell has both an estimate and a finite graft.</p>"
    values = [value for p in drawn for value in (p.estimate, p.change)]
    across, up = svg.covering(values, _LEFT, _RIGHT), svg.covering(values, _BOTTOM, _TOP)
    pieces = []
    for tick in across.ticks(4):
        x, y = across.at(tick), up.at(tick)
        pieces += [svg.line(x, _TOP, x, _BOTTOM, "grid"), svg.line(_LEFT, y, _RIGHT, y, "grid")]
        pieces += [
            svg.words(x, _BOTTOM + 15, shown(tick), "tick", "middle"),
            svg.words(_LEFT - 5, y + 4, shown(tick), "tick", "end"),
        ]
    ends = max(across.low, up.low), min(across.high, up.high)
    pieces.append(
        svg.line(across.at(ends[0]), up.at(ends[0]), across.at(ends[1]), up.at(ends[1]), "axis equal")
    )
    if up.low < check.threshold < up.high:
        y = up.at(check.threshold)
        pieces += [svg.line(_LEFT, y, _RIGHT, y, "kept"),
                   svg.words(_LEFT + 4, y - 4, "tenth largest graft", "tick")]  # fmt: skip
    for point in drawn:
        x, y = across.at(point.estimate), up.at(point.change)
        pieces.append(
            svg.marker(x, y, _MARKS[point.kind])
            if point.kind in _MARKS
            else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" class="dot"/>'
        )
    pieces += [
        svg.words((_LEFT + _RIGHT) / 2, _BOTTOM + 32, "estimated", "", "middle"),
        f'<text transform="translate(12 {(_TOP + _BOTTOM) / 2}) rotate(-90)" text-anchor="middle">grafted</text>',
    ]
    correlation = "not set" if check.correlation is None else shown(check.correlation)
    described = (
        f"{len(drawn)} cells; Pearson correlation {correlation}. The figures are in the table beside it."
    )
    return svg.drawing(key, _BOTTOM + 40, "Grafts over estimates", described, pieces)


def _table(case: Case, points: Sequence[Point]) -> str:
    """Cells as figures, the largest change first; not those that were grafted with all."""
    checked = [p for p in points if p.kind != "other"]
    checked.sort(key=lambda p: -p.change if not math.isnan(p.change) else math.inf)
    rows = [
        (
            f"<bdi>{escape(cut(row_label(case, p.cell.row)))}</bdi>",
            layers_label(p.cell.layers),
            escape(set_label(p.cell.components)),
            shown(p.estimate),
            shown(p.change),
            p.kind,
        )
        for p in checked[:_MOST_ROWS]
    ]
    rest = len(checked) - len(rows)
    more = (
        f"<p><small>And {rest} more, which the JSON and Parquet tables have.</small></p>" if rest > 0 else ""
    )
    columns = ["at", ">layers", "grafted", ">estimated", ">as grafted", "chosen as"]
    return (
        f"<details><summary>{len(checked)} cells in figures</summary>"
        f"{html_table('Estimates and grafts', columns, rows)}{more}</details>"
    )
