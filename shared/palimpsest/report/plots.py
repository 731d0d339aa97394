"""Plots of a context: size against quality over its levels, delay against bandwidth over the ways to load it."""

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.report.figures import Curve, LevelPoint
from palimpsest.report.page import html_page, table
from palimpsest.report.style import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = (".png", ".svg", ".html")

_INK, _EDGE = "#1c1b1a", "#d8d4cb"
"""Colours that the drawings of a page have, and no curve: the page's own take their place, light or dark."""

_SVG = "svg { max-width: 34rem; margin: 0 auto; }"


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
    if path.suffix != ".html":
        draw(title, points, curves).savefig(path, format=path.suffix[1:], dpi=150)
        return
    path.write_text(page(title, _drawings(points, curves), points, curves), encoding="utf-8")


def _drawings(points: Sequence[LevelPoint], curves: Sequence[Curve]) -> list[str]:
    """Return both plots as SVG that takes the page's colours and has its ground."""
    figure_class()
    import matplotlib

    plain = {f"{name}.color": _INK for name in ("text", "xtick", "ytick")} | {"axes.labelcolor": _INK}
    grounds = {f"{name}.facecolor": "none" for name in ("figure", "axes", "savefig", "legend")}
    edges = {
        "axes.edgecolor": _EDGE,
        "grid.color": _EDGE,
        "legend.edgecolor": _EDGE,
        "legend.framealpha": 0.0,
    }
    made = []
    with matplotlib.rc_context(plain | grounds | edges):  # type: ignore[arg-type]  # its keys are literals there
        for draw_on in (lambda axes: _sizes(axes, points), lambda axes: _delays(axes, curves)):
            figure = figure_class()(figsize=(5.5, 4.4), layout="constrained")
            draw_on(figure.subplots())
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg")
            svg = buffer.getvalue()
            made.append(svg[svg.index("<svg") :].replace(_INK, "var(--ink)").replace(_EDGE, "var(--edge)"))
    return made


def draw(title: str, points: Sequence[LevelPoint], curves: Sequence[Curve]) -> "Figure":
    """Return the figure."""
    figure = figure_class()(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    _sizes(left, points)
    _delays(right, curves)
    return figure


def page(title: str, drawings: Sequence[str], points: Sequence[LevelPoint], curves: Sequence[Curve]) -> str:
    """Return a page that needs nothing else: the drawings, as SVG, and their figures."""
    levels = [(html.escape(p.level), f"{p.size_bytes:,}", f"{p.share:.1%}", f"{p.loss:.4g}") for p in points]
    rows = zip(*(curve.seconds for curve in curves), strict=True)
    delays = [
        (f"{bandwidth * 8 / 1e6:g}", *(f"{seconds:.3g}" for seconds in row))
        for bandwidth, row in zip(curves[0].bandwidths if curves else (), rows, strict=True)
    ]
    names = [f">{curve.name}" for curve in curves]
    pictures = "".join(f"<figure>{drawing}</figure>" for drawing in drawings)
    body = (
        f'<h1>{html.escape(title)}</h1><div class="plots">{pictures}</div><h2>Levels</h2>'
        + table("Levels", ["level", ">bytes", ">of the cache", ">loss, nats/token"], levels)
        + "<h2>Seconds until usable, estimated</h2>"
        + table("Seconds until usable", ["Mbit/s", *names], delays)
    )
    return html_page(title, STYLE + _SVG, body)


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
