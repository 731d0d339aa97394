"""Maps of a sweep as a picture: the same cells, scales and hues as on its page."""

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.report.grafting.scales import Shades, shades_of
from palimpsest.report.grafting.table import Case, Table
from palimpsest.report.grafting.words import Measure, cut, layers_label, row_label, set_label, visible
from palimpsest.report.plots import figure_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

_NONE, _HIGH, _LOW = "#f3efe6", "#003f66", "#a84300"
_MOST_LABELS = 12
FONTS = ["DejaVu Sans Mono", "DejaVu Sans"]
"""Both come with matplotlib; the second has letters that the first lacks."""
_INCHES = 0.24
"""Height of a row."""


def write_picture(path: Path, kind: str, figure: "Figure") -> None:
    """Write a figure.

    Parameters
    ----------
    path
        Where it goes.
    kind
        ``png`` or ``svg``.
    figure
        From :func:`draw`, or of ``charts``.
    """
    import matplotlib

    # Words stay words in SVG, so that they can be searched, and are drawn in the reader's fonts.
    with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        # Prompts have letters that no font here has; those are drawn as boxes.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        figure.savefig(path, format=kind, dpi=150)


def draw(table: Table, case: int, measure: Measure) -> "Figure":
    """Return the maps of one case: one plot for each set of components.

    Parameters
    ----------
    table, case
        The sweep, and the number of the case.
    measure
        The reading.

    Raises
    ------
    FailedPrecondition
        SERVICES_MISSING: there is no matplotlib.
    """
    made, shown = figure_class(), table.cases[case]
    sets, scale = shown.sets, shades_of(shown, measure.name)
    height = 2.4 + _INCHES * len(shown.rows)
    figure = made(figsize=(2.6 + 4.6 * max(1, len(sets)), height), layout="constrained")
    entitle(figure, table, shown)
    plots = figure.subplots(1, max(1, len(sets)), sharey=True, squeeze=False)[0]
    colours, norm = _colours(scale)
    for axes, components in zip(plots, sets, strict=False):
        _map(axes, shown, _values(shown, components, measure, scale), colours, norm)
        if shown.partly_exact:
            _ring(axes, shown, components)
        axes.set_title(f"grafted: {set_label(components)}")
    bar = (
        figure.colorbar(plots[0].images[0], ax=list(plots), label=measure.label, extend="neither")
        if sets
        else None
    )
    if bar is not None and scale.falling:
        bar.ax.invert_yaxis()
    return figure


def entitle(figure: "Figure", table: Table, case: Case) -> None:
    """Say above a figure what it is of."""
    lines = (
        f"{table.donor.id} in {table.base.id}",
        cut(visible(case.prompt), 70),
        f"→ {cut(visible(case.target), 50)}",
    )
    figure.suptitle("\n".join(lines), fontsize="medium", parse_math=False)


def _ring(axes: "Axes", case: Case, components: tuple[str, ...]) -> None:
    """Mark the cells that were grafted, not only estimated."""
    at = [
        (case.windows.index(cell.layers), case.rows.index(cell.row))
        for cell in case.cells
        if cell.exact and cell.components == components
    ]
    axes.scatter(*zip(*at, strict=True), s=9, c="#fdfcf9", edgecolors="#1c1b19") if at else None


def _values(case: Case, components: tuple[str, ...], measure: Measure, scale: Shades) -> list[list[float]]:
    """The cells, row by row; NaN is what is not set, and infinities are at the ends of the scale."""
    found = {
        (cell.row, cell.layers): cell.reading.values.get(measure.name)
        for cell in case.cells
        if cell.components == components
    }
    every = ([found.get((row, window)) for window in case.windows] for row in case.rows)
    ends = {math.inf: scale.high, -math.inf: scale.low}
    return [[math.nan if each is None else ends.get(each, each) for each in row] for row in every]


def _map(axes: "Axes", case: Case, values: list[list[float]], colours: "Colormap", norm: "Normalize") -> None:
    rows, windows = case.rows, case.windows
    axes.set_facecolor("white")
    axes.patch.set(hatch="////", edgecolor="#8a857a")  # shows through where there is no value
    axes.imshow(values, cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
    labels = [cut(row_label(case, row)) for row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize="small", family=FONTS, parse_math=False)
    step = max(1, math.ceil(len(windows) / _MOST_LABELS))
    ticks = range(0, len(windows), step)
    axes.set_xticks(ticks, [layers_label(windows[at]) for at in ticks], fontsize="small")
    axes.set_xlabel("layers")


def _colours(scale: Shades) -> "tuple[Colormap, Normalize]":
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize

    ends = [_NONE, _HIGH]
    if scale.diverging:
        ends = [_LOW, _NONE, _HIGH]
    elif scale.falling:
        ends = [_HIGH, _NONE]
    colours = LinearSegmentedColormap.from_list("grafts", ends).with_extremes(bad=(0, 0, 0, 0))
    high = scale.high if scale.high > scale.low else scale.low + 1.0
    return colours, (LogNorm if scale.logarithmic else Normalize)(scale.low, high, clip=True)
