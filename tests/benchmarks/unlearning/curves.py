"""Curves of a benchmark as a page that needs nothing else: a picture, and its figures in tables."""

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse }} td, th {{ padding: .1rem .6rem; text-align: right }}
svg {{ width: 100%; height: auto }}</style>
<h1>{title}</h1>
{svg}
{tables}
</html>
"""


@dataclass(frozen=True)
class Line:
    """One line of a panel."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One plot: its title, what is on its axes, and its lines."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]


def page(path: Path, title: str, panels: Sequence[Panel]) -> None:
    """Write the panels side by side, three in a row, and a table of each."""
    rows = -(-len(panels) // 3)
    # A figure without pyplot draws with Agg and opens no window, wherever it runs.
    figure = Figure(figsize=(15, 4.2 * rows), layout="constrained")
    for axes, panel in zip(figure.subplots(rows, 3, squeeze=False).flat, panels, strict=False):
        for line in panel.lines:
            axes.plot(line.x, line.y, "o-", markersize=3, label=line.name)
        axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
        axes.grid(alpha=0.3)
        if len(panel.lines) > 1:
            axes.legend(fontsize="small")
    for axes in figure.axes[len(panels) :]:
        axes.set_axis_off()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    svg = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = "\n".join(map(_table, panels))
    path.write_text(_PAGE.format(title=html.escape(title), svg=svg[svg.index("<svg") :], tables=tables))


def _table(panel: Panel) -> str:
    """One row for each x that any line has."""
    values = [dict(zip(line.x, line.y, strict=True)) for line in panel.lines]
    names = "".join(f"<th>{html.escape(line.name)}</th>" for line in panel.lines)
    rows = []
    for x in sorted({x for each in values for x in each}):
        cells = "".join(f"<td>{each[x]:.2f}</td>" if x in each else "<td></td>" for each in values)
        rows.append(f"<tr><td>{x:g}</td>{cells}</tr>\n")
    title, x = html.escape(panel.title), html.escape(panel.x)
    head = f"<h2>{title}: {html.escape(panel.y)}</h2>\n<table><tr><th>{x}</th>{names}</tr>\n"
    return f"{head}{''.join(rows)}</table>"
