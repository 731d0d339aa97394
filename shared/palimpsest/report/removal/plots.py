"""The drawings of a request's page: its six axes, its measurements with their intervals, its curves."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.report.removal.axes import LEAST_AXES, Axis
from palimpsest.report.removal.targets import Target
from palimpsest.report.removal.words import metric_named, number
from palimpsest.report.svg import (
    WIDTH,
    Scale,
    covering,
    drawing,
    line,
    marker,
    path,
    words,
)

_CENTRE, _RADIUS = (170.0, 140.0), 88.0
_LEFT, _RIGHT = 88.0, 286.0
_ROW = 24.0


class Line(NamedTuple):
    """One line of a chart: its name, its kind, and points of step and value; None is a value that was not finite."""

    name: str
    kind: str
    points: Sequence[tuple[float, float | None]]


def radar(axes: Sequence[Axis]) -> str:
    """Draw the axes that tell something, the references as the outer ring; empty if they are too few."""
    told = [(axis.label, axis.value) for axis in axes if axis.value is not None]
    if len(told) < LEAST_AXES:
        return ""
    count = len(told)
    pieces = [
        path([_spoke(n, count, share) for n in range(count)], kind, closed=True)
        for share, kind in ((0.25, "grid"), (0.5, "grid"), (0.75, "grid"), (1.0, "ring"))
    ]
    for at, (label, value) in enumerate(told):
        x, y = _spoke(at, count, 1.0)
        pieces.append(line(*_CENTRE, x, y, "grid"))
        pieces += _spoke_label(*_spoke(at, count, 1.16), [*label.split(" "), f"{value:.0%}"])
    pieces.append(path([_spoke(at, count, value) for at, (_, value) in enumerate(told)], "area", closed=True))
    pieces += [marker(*_spoke(at, count, value), "after") for at, (_, value) in enumerate(told)]
    described = "; ".join(f"{label} {value:.0%}" for label, value in told)
    return drawing(
        "radar", 290, "How far the request has come, the references being 100 %", described, pieces
    )


def intervals(metric: str, found: Sequence[pb.Measurement], target: Target | None) -> str:
    """Draw one metric of all models: values with their intervals, over the target as a band."""
    named, top = metric_named(metric), 10.0
    bottom = top + _ROW * len(found)
    scale = (
        Scale(*named.scale, _LEFT, _RIGHT) if named.scale else covering(_ends(found, target), _LEFT, _RIGHT)
    )
    pieces = [*_band(target, scale, top, bottom), *_ticks(scale, top, bottom)]
    for row, each in enumerate(found):
        y = top + _ROW * (row + 0.5)
        kind = each.model if each.model in ("before", "after") else "reference"
        pieces.append(words(_LEFT - 10, y + 4, whose(each, found), "label", "end", 11))
        if each.HasField("low") and each.HasField("high"):
            pieces.append(line(scale.at(each.low), y, scale.at(each.high), y, f"whisker {kind}"))
        pieces.append(marker(scale.at(each.value), y, kind))
        pieces.append(
            words(WIDTH, y + 4, f"{number(each.value)}{named.unit and ' ' + named.unit}", "label", "end")
        )
    told = "; ".join(f"{whose(each, found)} {number(each.value)}" for each in found)
    wanted = f"; target {target.text()}" if target else ""
    return drawing(f"m-{_key(metric)}", bottom + 22, named.label, told + wanted, pieces)


def curve(key: str, title: str, lines: Sequence[Line], kept: float | None = None) -> str:
    """Draw values by step; ``kept`` is the step whose weights were kept. Empty without a finite value."""
    values = [value for each in lines for _, value in each.points if value is not None]
    steps = [step for each in lines for step, _ in each.points]
    if not values or max(steps) == min(steps):
        return ""
    left, right, top, bottom = 46.0, WIDTH - 12.0, 10.0, 150.0
    across = Scale(min(steps), max(steps), left, right)
    up = covering(values, bottom, top)
    pieces = []
    for tick in up.ticks():
        pieces += [
            line(left, up.at(tick), right, up.at(tick), "grid"),
            words(left - 6, up.at(tick) + 4, f"{tick:.6g}", "tick", "end"),
        ]
    pieces += [words(across.at(tick), bottom + 16, f"{tick:g}", "tick", "middle") for tick in across.ticks()]
    pieces.append(words((left + right) / 2, bottom + 32, "step", "tick", "middle"))
    if kept is not None:
        pieces.append(line(across.at(kept), top, across.at(kept), bottom, "kept"))
    for each in lines:
        for run in _unbroken(each.points):
            drawn = [(across.at(step), up.at(value)) for step, value in run]
            pieces.append(path(drawn, f"curve {each.kind}"))
            if len(each.points) <= 40:
                pieces += [marker(x, y, _MARKS.get(each.kind, "")) for x, y in drawn]
    told = "; ".join(_told(each) for each in lines)
    return drawing(key, bottom + 38, title, told, pieces)


_MARKS = {"first": "after", "second": "before"}


def _told(each: Line) -> str:
    found = [(step, value) for step, value in each.points if value is not None]
    if not found:
        return f"{each.name}: no finite value"
    (first, start), (last, end) = found[0], found[-1]
    return f"{each.name}: {number(start)} at step {first:g}, {number(end)} at step {last:g}"


def _unbroken(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """Runs of finite values."""
    runs: list[list[tuple[float, float]]] = [[]]
    for step, value in points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((step, value))
    return [run for run in runs if run]


def _spoke(at: int, count: int, share: float) -> tuple[float, float]:
    angle = 2 * math.pi * at / count - math.pi / 2
    return _CENTRE[0] + _RADIUS * share * math.cos(angle), _CENTRE[1] + _RADIUS * share * math.sin(angle)


def _spoke_label(x: float, y: float, lines: Sequence[str]) -> list[str]:
    """Words around the end of a spoke: away from the centre, one below the other."""
    across = x - _CENTRE[0]
    if abs(across) < 12 and y < _CENTRE[1]:
        return [words(x, y, " ".join(lines), "label", "middle")]
    anchor = "middle" if abs(across) < 12 else "start" if across > 0 else "end"
    top = y + 4 if y > _CENTRE[1] + 20 else y - 10
    return [words(x, top + 14 * at, text, "label", anchor) for at, text in enumerate(lines)]


def _band(target: Target | None, scale: Scale, top: float, bottom: float) -> list[str]:
    if target is None:
        return []
    start = scale.start if target.low is None else scale.at(target.low)
    end = scale.end if target.high is None else scale.at(target.high)
    if end - start < 2:
        return [line((start + end) / 2, top, (start + end) / 2, bottom, "kept")]
    return [
        f'<rect x="{start:.1f}" y="{top:g}" width="{end - start:.1f}" height="{bottom - top:.1f}" class="target"/>'
    ]


def _ticks(scale: Scale, top: float, bottom: float) -> list[str]:
    found = [line(scale.start, bottom, scale.end, bottom, "axis")]
    for tick in scale.ticks():
        x = scale.at(tick)
        found += [line(x, top, x, bottom, "grid"), words(x, bottom + 15, f"{tick:.6g}", "tick", "middle")]
    return found


def _ends(found: Sequence[pb.Measurement], target: Target | None) -> list[float]:
    ends = [each.value for each in found]
    ends += [end for each in found if each.HasField("low") for end in (each.low, each.high)]
    ends += [end for end in (target or ()) if end is not None]
    return [end for end in ends if math.isfinite(end)] or [0.0]


def whose(each: pb.Measurement, found: Sequence[pb.Measurement]) -> str:
    """Whose measurement it is: the model, or, of several by one model, what it is measured against."""
    several = sum(other.model == each.model for other in found) > 1
    return each.convention.rpartition("against ")[2] if several else each.model


def _key(metric: str) -> str:
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in metric)


def measured_by_metric(found: Sequence[pb.Measurement]) -> Mapping[str, list[pb.Measurement]]:
    """Measurements by metric, in the order in which metrics come first."""
    by_metric: dict[str, list[pb.Measurement]] = {}
    for each in found:
        by_metric.setdefault(each.metric, []).append(each)
    return by_metric
