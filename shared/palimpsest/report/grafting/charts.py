"""Pictures of what a sweep says beyond its cells: estimates beside grafts, and values of segments."""

from typing import TYPE_CHECKING

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.report.grafting.estimates import KINDS, check_of, drawn_of, points_of
from palimpsest.report.grafting.pictures import FONTS, entitle
from palimpsest.report.grafting.segments import last_of
from palimpsest.report.grafting.table import Table
from palimpsest.report.grafting.words import cut, layers_words, set_label, shown, visible
from palimpsest.report.plots import figure_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_AFTER, _BEFORE, _INK, _SOFT = "#0067a3", "#b84a00", "#1c1b19", "#6b675e"
_MOST = 12
_STYLES = {
    "largest": {"c": _AFTER, "marker": "o", "s": 28, "zorder": 3},
    "random": {"facecolors": "none", "edgecolors": _BEFORE, "marker": "s", "s": 28, "zorder": 4},
    "other": {"c": _SOFT, "marker": ".", "s": 8},
}


def draw_estimates(table: Table, number: int) -> "Figure":
    """Draw the grafts of one case over its estimates.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: nothing was estimated.
    FailedPrecondition
        SERVICES_MISSING: there is no matplotlib.
    """
    made, case, check = figure_class(), table.cases[number], check_of(table, number)
    if check is None:
        raise _missing("estimates", "--preview")
    figure = made(figsize=(6.2, 6.0), layout="constrained")
    entitle(figure, table, case)
    axes = figure.subplots()
    drawn = drawn_of(points_of(case, check))
    for kind, label in KINDS.items():
        own = [point for point in drawn if point.kind == kind]
        if own:
            pairs = [p.estimate for p in own], [p.change for p in own]
            axes.scatter(*pairs, label=label, **_STYLES[kind])
    if drawn:
        axes.axline((0, 0), slope=1, color=_INK, lw=1, ls="--")
        axes.axhline(check.threshold, color=_INK, lw=1, ls=":", label="tenth largest graft")
        axes.legend(fontsize="small")
    correlation = "not set" if check.correlation is None else shown(check.correlation)
    many = check.top + check.random if case.partly_exact else check.cells
    least = "at most " if case.partly_exact else ""
    axes.set_title(
        f"Pearson {correlation}; {many} of {check.cells} grafted, {least}{check.missed_at_most} missed",
        fontsize="small",
    )
    axes.set_xlabel("estimated change of the log-probability, nats")
    axes.set_ylabel("as grafted, nats")
    axes.grid(color="#d8d4ca", lw=0.5)
    return figure


def draw_segments(table: Table, number: int) -> "Figure":
    """Draw the values of one case's segments, a row of two plots for each window and set of components (the first 12).

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: no subsets were grafted, or base and donor are equally probable.
    FailedPrecondition
        SERVICES_MISSING: there is no matplotlib.
    """
    made, case = figure_class(), table.cases[number]
    told = [values for values in case.values if values.segments][:_MOST]
    if not told:
        raise _missing("values of segments", "--subsets")
    heights = [max(len(v.segments), len(v.interactions)) for v in told]
    figure = made(figsize=(9.5, 1.2 + sum(0.9 + 0.3 * n for n in heights)), layout="constrained")
    entitle(figure, table, case)
    plots = figure.subplots(len(told), 2, squeeze=False, height_ratios=[1 + n for n in heights])
    for (left, right), values in zip(plots, told, strict=True):
        names = [cut(visible(s.name)) for s in values.segments]
        _bars(left, names, [s.shapley for s in values.segments])
        rows = range(len(names))
        style = {"s": 30, "zorder": 3}
        first = [s.alone for s in values.segments]
        left.scatter(
            first, rows, marker="s", facecolors="white", edgecolors=_BEFORE, label="as the first", **style
        )
        left.scatter(last_of(values), rows, marker="D", c=_INK, label="as the last", **style)
        if values is told[0]:
            left.legend(fontsize="x-small")
        left.set_title(
            f"{layers_words(values.layers)}, {set_label(values.components)}: Shapley", fontsize="small"
        )
        pairs = [f"{cut(visible(i.first), 12)} × {cut(visible(i.second), 12)}" for i in values.interactions]
        _bars(right, pairs, [i.value for i in values.interactions])
        right.set_title("interactions", fontsize="small")
    return figure


def _bars(axes: "Axes", names: list[str], values: list[float]) -> None:
    colours = [_AFTER if value >= 0 else _BEFORE for value in values]
    axes.barh(range(len(values)), values, color=colours, alpha=0.45, height=0.5)
    axes.set_yticks(range(len(values)), names, fontsize="small", family=FONTS, parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0, color=_INK, lw=1)
    axes.tick_params(axis="x", labelsize="small")


def _missing(what: str, option: str) -> InvalidArgument:
    message = f"This case has no {what}. Run `palimpsest graft sweep` with {option}, and draw its table."
    return InvalidArgument.field(Reason.INVALID_REQUEST, "picture", message)
