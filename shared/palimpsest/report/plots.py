"""Plots of a context: size against quality over its levels, delay against bandwidth over the ways to load it."""

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.report.figures import Curve, LevelPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = (".png", ".svg", ".html")

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse }} td, th {{ padding: .2rem .8rem; text-align: right }}
td:first-child, th:first-child {{ text-align: left }} tr + tr {{ border-top: 1px solid #ddd }}
svg {{ width: 100%; height: auto }}</style>
<h1>{title}</h1>
{svg}
<h2>Levels</h2>
<table><tr><th>level</th><th>bytes</th><th>of the cache</th><th>loss, nats/token</th></tr>
{levels}</table>
<h2>Seconds until usable, estimated</h2>
<table><tr><th>Mbit/s</th>{names}</tr>
{delays}</table>
</html>
"""


def check(path: Path) -> None:
    """Check that ``write`` will succeed, before anything is measured.

    Raises
    ------
    InvalidArgument
        The file's suffix is not a supported format.
    FailedPrecondition
        Plots cannot be drawn here.
    """
    if path.suffix not in KINDS:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST,
            "plot",
            f"Plots are written as {', '.join(KINDS)}; {path} is none of them.",
        )
    figure_class()


def write(path: Path, title: str, points: Sequence[LevelPoint], curves: Sequence[Curve]) -> None:
    """Draw both plots side by side as an image, or as a page with their data in tables."""
    figure = draw(title, points, curves)
    if path.suffix != ".html":
        figure.savefig(path, format=path.suffix[1:], dpi=150)
        return
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    svg = buffer.getvalue()
    path.write_text(page(title, svg[svg.index("<svg") :], points, curves))


def draw(title: str, points: Sequence[LevelPoint], curves: Sequence[Curve]) -> "Figure":
    """Return the figure."""
    figure = figure_class()(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    _sizes(left, points)
    _delays(right, curves)
    return figure


def page(title: str, svg: str, points: Sequence[LevelPoint], curves: Sequence[Curve]) -> str:
    """Return a page that needs nothing else: the picture, and its figures."""
    levels = "".join(
        f"<tr><td>{html.escape(p.level)}</td><td>{p.size_bytes:,}</td><td>{p.share:.1%}</td><td>{p.loss:.4g}</td></tr>\n"
        for p in points
    )
    rows = zip(*(curve.seconds for curve in curves), strict=True)
    delays = "".join(
        f"<tr><td>{bandwidth * 8 / 1e6:g}</td>{''.join(f'<td>{seconds:.3g}</td>' for seconds in row)}</tr>\n"
        for bandwidth, row in zip(curves[0].bandwidths if curves else (), rows, strict=True)
    )
    names = "".join(f"<th>{html.escape(curve.name)}</th>" for curve in curves)
    return _PAGE.format(title=html.escape(title), svg=svg, levels=levels, names=names, delays=delays)


def _sizes(axes: "Axes", points: Sequence[LevelPoint]) -> None:
    # Lossless is at 0, where a logarithmic axis does not go.
    axes.plot([p.share * 100 for p in points], [p.loss for p in points], "o-")
    for point in points:
        axes.annotate(point.level, (point.share * 100, point.loss), textcoords="offset points", xytext=(6, 4))
    axes.set(
        xlabel="size, % of the cache",
        ylabel="loss, nats a token",
        title="levels",
        yscale="symlog" if any(p.loss == 0 for p in points) else "log",
    )
    if any(p.loss == 0 for p in points):
        axes.set_yscale("symlog", linthresh=1e-3)
    axes.margins(x=0.25)
    axes.grid(alpha=0.3)


def _delays(axes: "Axes", curves: Sequence[Curve]) -> None:
    for curve in curves:
        thick = curve.name == "adaptive"
        axes.plot(
            [bandwidth * 8 / 1e6 for bandwidth in curve.bandwidths],
            curve.seconds,
            label=curve.name,
            linewidth=3 if thick else 1.2,
            alpha=0.6 if thick else 1.0,
            linestyle="--" if curve.name == "recompute" else "-",
        )
    axes.set(xlabel="link, Mbit/s", ylabel="seconds until usable", title="delay", xscale="log", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")


def figure_class() -> "type[Figure]":
    """Return matplotlib's figure.

    Raises
    ------
    FailedPrecondition
        SERVICES_MISSING: there is no matplotlib.
    """
    try:
        # A figure without pyplot draws with Agg and opens no window, wherever it runs.
        from matplotlib.figure import Figure
    except ModuleNotFoundError as missing:
        raise FailedPrecondition(
            Reason.SERVICES_MISSING,
            f"Plots need {missing.name}, which is not installed here: pip install 'palimpsest-lm[plots]'.",
        ) from None
    return Figure
