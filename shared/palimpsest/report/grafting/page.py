"""The page of a sweep: a map for each case and set of components, one reading at a time, in one file."""

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from string import Template
from typing import Any, NamedTuple

from palimpsest.report.grafting.contrasts import contrast_section
from palimpsest.report.grafting.estimates import preview_section
from palimpsest.report.grafting.grid import grid, legends, sentence
from palimpsest.report.grafting.numbers import plain
from palimpsest.report.grafting.pathways import PATHS, Found, command_for_both, means_of, paths_of
from palimpsest.report.grafting.scales import shades_of
from palimpsest.report.grafting.script import SCRIPT
from palimpsest.report.grafting.segments import enough_section, summaries_section, values_section
from palimpsest.report.grafting.style import MAP_STYLE, PAGE_STYLE
from palimpsest.report.grafting.table import Case, Reading, Table
from palimpsest.report.grafting.words import (
    Measure,
    cut,
    layers_words,
    measures_of,
    row_label,
    set_label,
    shown,
    visible,
)
from palimpsest.report.page import html_page
from palimpsest.report.page import table as html_table
from palimpsest.report.style import STYLE

_OPEN_CASES = 1

_BODY = Template("""\
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src $allowed">
<main>
<h1>Where <code>$donor</code> knows what <code>$base</code> does not</h1>
<p>Each cell is one pass of the base in which the donor’s weights act at one token (or selection), in one window of
layers and one set of components. Strong blue: these weights alone bring out the donor’s answer.</p>
$facts
$means
<h2 id="maps">Maps</h2>
<fieldset class="switch"><legend>Shown</legend>$switch</fieldset>
<noscript><p>Without scripts the first reading is shown, and no cell is read out.</p></noscript>
$cases
<div class="read"><output id="value" aria-live="polite">Point at a cell, or tab to a map and use the arrow keys.
</output><div id="more"></div></div>
</main>
<footer>A graft tells what these weights do in this prompt. One fact is no law; a sweep of several says more.</footer>
<script type="application/json" id="figures">$figures</script>
<script>$script</script>""")


class Work(NamedTuple):
    """What a sweep has cost: rows that went through a layer, and those of one whole pass for each cell."""

    row_layers: int
    naive_row_layers: int


def sweep_page(table: Table, entity: str = "", work: Work | None = None) -> str:
    """Write the page.

    Parameters
    ----------
    table
        Of the sweep.
    entity
        Take the enrichment at this text's tokens alone; empty: at any before the last.
    work
        From the job's result; None: it is not known.

    Raises
    ------
    InvalidArgument
        SPAN_NOT_FOUND: a prompt does not have the entity.
    """
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    switch = "".join(
        f'<label><input type="radio" name="measure" value="{each.name}"{" checked" if at == 0 else ""}>'
        f"{escape(each.label)}</label>"
        for at, each in enumerate(measures_of(table))
    )
    body = _BODY.substitute(
        allowed=f"'sha256-{digest}'",
        base=escape(table.base.id),
        donor=escape(table.donor.id),
        facts=facts_of(table, work),
        means=_means(table, entity) + summaries_section(table),
        switch=switch,
        cases="".join(_case(table, number, entity) for number in range(len(table.cases))),
        figures=_figures(table),
        script=SCRIPT,
    )
    return html_page(
        f"Grafts of {table.donor.id} in {table.base.id}", f"{STYLE}\n{MAP_STYLE}\n{PAGE_STYLE}", body
    )


def facts_of(table: Table, work: Work | None = None) -> str:
    """Whose weights, of what files, and what the sweep took."""
    facts = {
        "Base": f"{escape(table.base.id)}, <code>{escape(table.base.fingerprint)}</code>",
        "Donor": f"{escape(table.donor.id)}, <code>{escape(table.donor.fingerprint)}</code>",
        "Architecture": escape(f"{table.architecture}, {table.layers} layers"),
        "Cells": f"{table.cells:,} in {len(table.cases)} case{'s' if len(table.cases) > 1 else ''}",
    }
    if work:
        share = work.row_layers / work.naive_row_layers if work.naive_row_layers else 0.0
        facts["Rows through a layer"] = (
            f"{work.row_layers:,} of {work.naive_row_layers:,} that as many whole passes take: {share:.1%}"
        )
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f"<dl>{rows}</dl>"


def _means(table: Table, entity: str) -> str:
    if len(table.cases) < 2:
        return ""
    rows = [
        (
            f"{PATHS[each.path]}, {escape(set_label(each.components))}",
            str(each.cases),
            shown(each.recovery),
            shown(each.probability),
            f"{each.first:.0%}",
        )
        for each in means_of(table, entity)
    ]
    columns = ["path", ">cases", ">mean recovery", ">mean probability", ">rank 1"]
    head = '<h2 id="paths">Paths, over all cases</h2><p>Of each case the best cell on the path.</p>'
    return head + html_table("Paths over all cases", columns, rows)


def _case(table: Table, number: int, entity: str) -> str:
    case, measures = table.cases[number], measures_of(table)
    maps = "".join(
        f"<h3>Grafted: {escape(set_label(components))}</h3>"
        f"{grid(case, components, measures[0], live=True, number=number)}"
        for components in case.sets
    )
    found = paths_of(case, entity)
    title = f"Case {number + 1}: {cut(visible(case.prompt), 80)} → {cut(visible(case.target), 40)}"
    return (
        f'<details class="case"{" open" if number < _OPEN_CASES else ""}>'
        f"<summary><bdi>{escape(title)}</bdi></summary>"
        f"{sentence(case)}{legends(case, measures)}{maps}{preview_section(table, number)}"
        f"{values_section(table, number)}{enough_section(table, number)}"
        f"{contrast_section(case)}"
        f"<h3>Both models’ own passes</h3>{own_passes(case)}<h3>Paths</h3>{paths_table(case, found)}"
        f"{_both(command_for_both(table, case, found))}</details>"
    )


def own_passes(case: Case) -> str:
    """What the two models say of the target themselves."""
    rows = [(name, *_row(reading)) for name, reading in (("base", case.base), ("donor", case.donor))]
    return html_table("Both models’ own passes", ["pass", *_COLUMNS], rows)


def paths_table(case: Case, found: list[Found]) -> str:
    """The best cell of each path and set of components."""
    rows = [
        (
            PATHS[each.path],
            f"<span><bdi>{escape(cut(row_label(case, each.cell.row)))}</bdi>, "
            f"{layers_words(each.cell.layers)}</span>",
            escape(set_label(each.components)),
            *_row(each.cell.reading),
            "" if each.synergy is None else shown(each.synergy),
        )
        for each in found
    ]
    if not rows:
        return "<p>No row of this sweep is at the last token, or before it.</p>"
    says = "Of each path the cell with the highest recovery."
    if any(each.synergy is not None for each in found):
        says += " Synergy is recovery beyond the sum of the two alone, in the same layers."
    columns = ["path", "best cell", "grafted", *_COLUMNS, ">synergy"]
    return f"<p><small>{says}</small></p>{html_table('Paths', columns, rows)}"


_COLUMNS = [">recovery", ">log-probability", ">probability", ">rank", "likeliest"]


def _row(reading: Reading) -> tuple[str, ...]:
    names = ("recovery", "logprob", "probability", "rank")
    figures = (shown(reading.values.get(name)) for name in names)
    return (*figures, f"<bdi>{escape(cut(visible(reading.top)))}</bdi>")


def _both(command: str) -> str:
    if not command:
        return ""
    return (
        "<p>The sweep has no cell with both together. This command grafts them in all layers:</p>"
        f'<pre tabindex="0" aria-label="Command that grafts both places">{escape(command)}</pre>'
    )


def _figures(table: Table) -> str:
    """Everything the script needs, as JSON that cannot end its element."""
    measures = [
        {"name": each.name, "label": each.label, "diverging": each.diverging} for each in measures_of(table)
    ]
    data = {
        "base": table.base._asdict(),
        "donor": table.donor._asdict(),
        "measures": measures,
        "cases": [
            _columns(case, measures_of(table)) | {"values": raw.get("values", [])}
            for case, raw in zip(table.cases, table.raw["cases"], strict=True)
        ],
        **{name: table.raw.get(name, []) for name in ("previews", "summaries", "sufficient")},
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _columns(case: Case, measures: Sequence[Measure]) -> dict[str, Any]:
    """Readings of a case, column by column in the order of its cells, with their shades."""
    sets = case.sets
    cells: dict[str, list[Any]] = {
        "row": [cell.row for cell in case.cells],
        "layers": [cell.layers for cell in case.cells],
        "set": [sets.index(cell.components) for cell in case.cells],
        "top": [visible(cell.reading.top) for cell in case.cells],
        "exact": [int(cell.exact) for cell in case.cells],
    }
    for name in (*(each.name for each in measures), "strength", "ties", "top_probability"):
        cells[name] = [plain(cell.reading.values.get(name)) for cell in case.cells]
    scales = {each.name: shades_of(case, each.name) for each in measures}
    shades = {
        name: [scale.of(cell.reading.values.get(name)) for cell in case.cells]
        for name, scale in scales.items()
    }
    return {"sets": [set_label(each) for each in sets], "cells": cells, "shades": shades}
