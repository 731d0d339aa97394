"""The map of a sweep as HTML: a row for each token or selection, a column for each window of layers."""

from collections.abc import Sequence
from html import escape

from palimpsest.report.grafting.scales import Shades, shades_of
from palimpsest.report.grafting.table import Case, Cell
from palimpsest.report.grafting.words import (
    Measure,
    layers_label,
    row_label,
    set_label,
    shown,
    visible,
)

_RING = '<span class="key exact">grafted, not only estimated</span> '
_MOST_LABELS = 6
"""Columns that are named for those who see them; of more only every so many are, so that their names have room."""


def sentence(case: Case) -> str:
    """The prompt token by token, with the target after it."""
    tokens = "".join(f"<bdi>{escape(visible(token))}</bdi>" for token in case.tokens)
    target = "".join(f"<bdi>{escape(visible(token))}</bdi>" for token in case.target_tokens)
    return (
        f'<p class="tokens">{tokens} <span aria-hidden="true">→</span><span class="unseen">, target: '
        f'</span><span class="goal">{target}</span></p>'
    )


def grid(case: Case, components: tuple[str, ...], measure: Measure, *, live: bool, number: int = 0) -> str:
    """Draw the cells of one set of components.

    Parameters
    ----------
    case
        With its cells.
    components
        The set.
    measure
        The reading that is drawn.
    live
        For the page's own script, which reads values out and changes the reading; otherwise each cell says its value to
        those who do not see it.
    number
        Of the case, for the script.
    """
    scale, windows = shades_of(case, measure.name), case.windows
    at = {
        (cell.row, cell.layers): (place, cell)
        for place, cell in enumerate(case.cells)
        if cell.components == components
    }
    step = next(each for each in (1, 2, 5, 10, 20, 50, len(windows)) if len(windows) <= _MOST_LABELS * each)
    columns = "".join(
        f'<th scope="col"><span{"" if _is_named(place, step, len(windows)) else " class=unseen"}>'
        f"{layers_label(window)}</span></th>"
        for place, window in enumerate(windows)
    )
    rows = []
    for row in case.rows:
        label, token = escape(row_label(case, row)), case.token_of(row)
        name = f'<th scope="row"{" class=named" if token is None else ""} title="{label}"><bdi>{label}</bdi></th>'
        cells = "".join(
            _cell(at.get((row, window)), measure, scale, live, mark=case.partly_exact) for window in windows
        )
        rows.append(f"<tr>{name}{cells}</tr>")
    caption = f"{measure.label} by token and layer, grafted: {set_label(components)}"
    role = f' role="grid" data-case="{number}"' if live else ""
    kind = "diverging" if scale.diverging else "plain"
    return (
        f'<div class="wide"><table class="map {kind}"{role} style="--n: {len(windows)}"><caption>{escape(caption)}'
        f'</caption><thead><tr><th scope="col" class="corner">token ↓ layers →</th>{columns}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _is_named(place: int, step: int, columns: int) -> bool:
    return place % step == 0 and (step == 1 or place + step // 2 < columns)


def _cell(found: tuple[int, Cell] | None, measure: Measure, scale: Shades, live: bool, *, mark: bool) -> str:
    if found is None:
        return (
            '<td class="none"></td>' if live else '<td class="none"><span class="unseen">no cell</span></td>'
        )
    place, cell = found
    value = cell.reading.values.get(measure.name)
    shade = scale.of(value)
    kinds = [*(["exact"] if mark and cell.exact else []), *(["unset"] if shade is None else [])]
    colour = f' class="{" ".join(kinds)}"' if kinds else ""
    colour += "" if shade is None else f' style="--v: {shade}"'
    if live:
        return f'<td data-c="{place}"{colour}></td>'
    told = escape(shown(value))
    return f'<td{colour} title="{told}"><span class="unseen">{told}</span></td>'


def legend(case: Case, measure: Measure, *, hidden: bool = False) -> str:
    """The scale of a reading: its ends, both models' own values, and what a cell without a value looks like."""
    scale = shades_of(case, measure.name)
    low, high = shown(scale.low), shown(scale.high)
    if measure.name == "recovery":
        low, high = f"{low} or less", f"{high} or more"
    ends = f'<span>{low}</span><span class="ramp{_ramp(scale)}" aria-hidden="true"></span><span>{high}</span>'
    middle = "0 is in the middle. " if scale.diverging else ""
    passes = (case.base, case.donor)
    own = [shown(reading.values.get(measure.name)) for reading in passes if measure.name in reading.values]
    models = (
        "" if measure.name == "recovery" or not own else f"The base itself has {own[0]}, the donor {own[1]}. "
    )
    return (
        f'<div class="legend" data-of="{measure.name}"{" hidden" if hidden else ""}><b>{escape(measure.label)}</b> '
        f'<span class="scale">{ends}</span> <span class="key unset">not set</span> '
        f"{_RING if case.partly_exact else ''}"
        f"<small>{middle}{models}{escape(measure.says)}</small></div>"
    )


def legends(case: Case, measures: Sequence[Measure]) -> str:
    """The scales of all readings, the first one shown."""
    return "".join(legend(case, measure, hidden=at > 0) for at, measure in enumerate(measures))


def _ramp(scale: Shades) -> str:
    return " diverging" if scale.diverging else " falling" if scale.falling else ""
