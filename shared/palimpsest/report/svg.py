"""Pieces of drawings: SVG in the page itself, whose colours are the page's and whose words a screen reader reads."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH = 340
"""Of every drawing, in its own units: about the pixels of a small telephone, where its words keep their size."""


class Scale(NamedTuple):
    """A linear scale: values ``low`` to ``high`` are drawn from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value is drawn; one outside at the nearer end."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, about: int = 4) -> list[float]:
        """Round values within it."""
        step = _round_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def covering(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale that has all values, and a little more."""
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or abs(high) * 0.08 or 1.0
    return Scale(low - room, high + room, start, end)


def drawing(key: str, height: float, title: str, described: str, pieces: Sequence[str]) -> str:
    """Put a drawing together.

    Parameters
    ----------
    key
        Its id on the page, of letters, digits and hyphens.
    height
        In its own units; it is :data:`WIDTH` wide.
    title, described
        Plain text for those who do not see it: what it is, and what it shows.
    pieces
        SVG in which untrusted text is already escaped.
    """
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="{key}-t {key}-d">'
        f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(described)}</desc>'
        f"{''.join(pieces)}</svg>"
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A line; its kind is its class."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def words(x: float, y: float, text: str, kind: str = "", anchor: str = "start", most: int = 0) -> str:
    """Text at a place, cut to so many characters if it is longer."""
    cut = text if not most or len(text) <= most else text[: most - 1] + "…"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(cut)}</text>'


def path(points: Sequence[tuple[float, float]], kind: str, *, closed: bool = False) -> str:
    """Straight lines through points."""
    way = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + ("Z" if closed else "")
    return f'<path d="{way}" class="{kind}"/>'


def marker(x: float, y: float, kind: str) -> str:
    """A mark whose shape tells what it is of, as its colour does: before a square, after a disc, else a diamond."""
    if kind == "before":
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" class="mark before"/>'
    if kind == "after":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="mark after"/>'
    return path([(x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)], "mark reference", closed=True)


def _round_step(rough: float) -> float:
    if rough <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)
