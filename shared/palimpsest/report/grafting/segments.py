"""What segments of a prompt are worth, for themselves and together; sets that are enough; means over cases."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from palimpsest.report import svg
from palimpsest.report.grafting.beyond import Enough, Summary, Values
from palimpsest.report.grafting.table import Case, Table
from palimpsest.report.grafting.words import cut, layers_words, row_label, set_label, shown, visible
from palimpsest.report.page import table as html_table

_OPEN, _MOST_ROWS = 2, 300
"""Drawings that are shown at once; further ones are in a fold. Rows of a table of means."""
_LEFT, _RIGHT, _ROW, _TOP = 124, 298, 26, 8
_PREFIXES = {"shapley:": "Shapley value of", "interaction:": "interaction of"}


class Row(NamedTuple):
    """One line of a drawing: a name, a bar from 0 or an interval with its middle, and marks."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    marks: tuple[tuple[str, float], ...] = ()
    bar: bool = True


def values_section(table: Table, number: int) -> str:
    """Values of a case's segments; empty where no subsets were grafted."""
    case = table.cases[number]
    if not case.values:
        return ""
    told = [_values(f"values{number}-{at}", each) for at, each in enumerate(case.values)]
    rest = "".join(told[_OPEN:])
    more = (
        f"<details><summary>{len(told) - _OPEN} more windows or sets</summary>{rest}</details>"
        if rest
        else ""
    )
    return (
        "<h3>What segments add</h3><p>In recovery. A segment’s Shapley value is what it adds on average over all "
        "orders of grafting; together these add up to the recovery of all. Where a segment adds more as the first (□) "
        "than as the last (◆), others can stand in for it; where less, it needs them.</p>"
        f"{''.join(told[:_OPEN])}{more}"
    )


def last_of(values: Values) -> list[float]:
    """What each segment adds after all others."""
    whole = sum(segment.shapley for segment in values.segments)
    return [whole - segment.without for segment in values.segments]


def _values(key: str, values: Values) -> str:
    title = f"{layers_words(values.layers).capitalize()}, {set_label(values.components)}"
    if not values.segments:
        return f"<h4>{escape(title)}</h4><p>Base and donor are equally probable, so there is no recovery to divide.</p>"
    rows = [
        Row(visible(s.name), s.shapley, marks=(("before", s.alone), ("reference", last)))
        for s, last in zip(values.segments, last_of(values), strict=True)
    ]
    pairs = [Row(f"{visible(i.first)} × {visible(i.second)}", i.value) for i in values.interactions]
    figures = [
        _figure(
            "Recovery added",
            '<span class="key bar">Shapley value</span> <span class="key before">as the first</span> '
            '<span class="key reference">as the last</span>',
            rows_drawn(key, "Shapley values of segments", rows),
        )
    ]
    if pairs:
        figures.append(
            _figure(
                "Interaction",
                "<small>Above 0 two gain more together than apart; below 0 one can stand in for the other.</small>",
                rows_drawn(f"{key}-pairs", "Interactions of segments", pairs),
            )
        )
    numbers = [
        (f"<bdi>{escape(visible(s.name))}</bdi>", *map(shown, (s.shapley, s.alone, last, s.without)))
        for s, last in zip(values.segments, last_of(values), strict=True)
    ]
    columns = ["segment", ">Shapley value", ">as the first", ">as the last", ">all but it"]
    table = html_table(f"Values of segments, {title}", columns, numbers)
    return f'<h4>{escape(title)}</h4><div class="plots">{"".join(figures)}</div>{table}'


def _figure(title: str, says: str, drawn: str) -> str:
    return f"<figure><figcaption><b>{title}</b><br>{says}</figcaption>{drawn}</figure>"


def rows_drawn(key: str, title: str, rows: Sequence[Row]) -> str:
    """Draw lines under each other, with 0 on the scale."""
    ends = [0.0, *(v for row in rows for v in _numbers(row))]
    scale = svg.covering(ends, _LEFT, _RIGHT)
    bottom = _TOP + _ROW * len(rows)
    pieces = []
    for tick in scale.ticks(3):
        x = scale.at(tick)
        pieces += [svg.line(x, _TOP, x, bottom, "grid"),
                   svg.words(x, bottom + 14, shown(round(tick, 9)), "tick", "middle")]  # fmt: skip
    pieces.append(svg.line(scale.at(0), _TOP, scale.at(0), bottom, "ring"))
    for at, row in enumerate(rows):
        y = _TOP + _ROW * (at + 0.5)
        pieces.append(svg.words(0, y + 4, row.name, "", "start", 16))
        pieces += _line(row, scale, y)
        pieces.append(svg.words(svg.WIDTH, y + 4, shown(float(f"{row.value:.2g}")), "", "end"))
    described = "; ".join(f"{row.name} {shown(row.value)}" for row in rows)
    return svg.drawing(key, bottom + 20, title, described, pieces)


def _numbers(row: Row) -> list[float]:
    return [v for v in (row.value, row.low, row.high, *(each for _, each in row.marks)) if v is not None]


def _line(row: Row, scale: svg.Scale, y: float) -> list[str]:
    pieces = []
    if row.bar:
        left, right = sorted((scale.at(0), scale.at(row.value)))
        kind = "less" if row.value < 0 else "more"
        width = max(1.0, right - left)
        pieces.append(
            f'<rect x="{left:.1f}" y="{y - 6:.1f}" width="{width:.1f}" height="12" class="bar {kind}"/>'
        )
    if row.low is not None and row.high is not None:
        low, high = scale.at(row.low), scale.at(row.high)
        pieces.append(svg.line(low, y, high, y, "whisker after"))
        pieces += [svg.line(x, y - 4, x, y + 4, "whisker after") for x in (low, high)]
    if not row.bar:
        pieces.append(svg.marker(scale.at(row.value), y, "after"))
    pieces += [svg.marker(scale.at(value), y, kind) for kind, value in row.marks]
    return pieces


def enough_section(table: Table, number: int) -> str:
    """Sets of a case that are enough; empty where none were looked for."""
    found = [each for each in table.enough if each.case == number]
    if not found:
        return ""
    columns = ["where", "enough for", "set", ">its recovery", ">all other tokens", ">grafts"]
    rows = [_enough(table.cases[number], each) for each in found]
    return (
        "<h3>What is enough</h3><p><small>Of each set no member can be left out. Where all other tokens recover "
        f"little, it is needed too.</small></p>{html_table('Sets that are enough', columns, rows)}"
    )


def _enough(case: Case, found: Enough) -> tuple[str, ...]:
    names = ", ".join(f"<bdi>{escape(cut(row_label(case, name)))}</bdi>" for name in found.positions)
    where = f"{layers_words(found.layers)}, {set_label(found.components)}"
    return (
        escape(where),
        shown(found.threshold),
        names if found.reached else "all together are not enough",
        shown(found.recovery),
        shown(found.complement),
        str(found.grafts),
    )


def name_of(position: str) -> str:
    """What a mean is of, in words."""
    prefix = _prefix_of(position)
    return f"{_PREFIXES[prefix]} {_short(position, prefix)}" if prefix else visible(position)


def summaries_section(table: Table) -> str:
    """Means over the cases; empty where there are none."""
    if len(table.cases) < 2 or not table.summaries:
        return ""
    groups: dict[tuple[tuple[int, int], tuple[str, ...]], list[Summary]] = {}
    for each in table.summaries:
        groups.setdefault((each.layers, each.components), []).append(each)
    drawn = [
        f"<h3>{escape(f'{layers_words(layers).capitalize()}, {set_label(components)}')}</h3>{_means(f'means{at}', own)}"
        for at, ((layers, components), own) in enumerate(groups.items())
        if at < _OPEN
    ]
    return (
        '<h2 id="means">Means over the cases</h2><p>Mean recoveries, and mean values of segments, over the cases in '
        "which base and donor differ, with 95 % intervals (bootstrap over cases; too narrow for few).</p>"
        f"{''.join(drawn)}{_summary_table(table.summaries)}"
    )


def _means(key: str, summaries: Sequence[Summary]) -> str:
    """Draw selections, values and interactions of one window and set, each kind by itself."""
    parts = {"": "Recovery", "shapley:": "Shapley values", "interaction:": "Interactions"}
    figures = []
    for prefix, title in parts.items():
        own = [s for s in summaries if _prefix_of(s.position) == prefix]
        if own:
            rows = [Row(_short(s.position, prefix), s.mean, s.low, s.high, bar=False) for s in own[:24]]
            drawn = rows_drawn(f"{key}-{prefix.rstrip(':') or 'rows'}", f"{title}: means over cases", rows)
            figures.append(_figure(title, '<span class="key after">mean, with its interval</span>', drawn))
    return f'<div class="plots">{"".join(figures)}</div>'


def _prefix_of(position: str) -> str:
    return next((prefix for prefix in _PREFIXES if position.startswith(prefix)), "")


def _short(position: str, prefix: str) -> str:
    """The segments of a mean; two names with a colon of their own are left as they are."""
    names = position.removeprefix(prefix)
    first, _, second = names.partition(":")
    if prefix == "interaction:" and second and ":" not in second:
        return f"{visible(first)} × {visible(second)}"
    return visible(names)


def _summary_table(summaries: Sequence[Summary]) -> str:
    rows = [
        (
            f"<bdi>{escape(name_of(s.position))}</bdi>",
            escape(f"{layers_words(s.layers)}, {set_label(s.components)}"),
            str(s.cases),
            shown(s.mean),
            "not set" if s.low is None or s.high is None else f"{shown(s.low)} to {shown(s.high)}",
        )
        for s in summaries[:_MOST_ROWS]
    ]
    columns = ["of", "grafted", ">cases", ">mean", ">95 % interval"]
    rest = len(summaries) - len(rows)
    more = f"<p><small>And {rest} more, which the JSON table has.</small></p>" if rest > 0 else ""
    return (
        f"<details><summary>All {len(summaries)} means in figures</summary>"
        f"{html_table('Means over the cases', columns, rows)}{more}</details>"
    )
