"""The curves of a request's training run: read from their artefact, and drawn."""

import math
from collections.abc import Sequence
from html import escape
from statistics import fmean
from typing import Any, NamedTuple

from palimpsest.errors import DataLoss, Reason
from palimpsest.json_input import decode
from palimpsest.report.removal.plots import Line, curve
from palimpsest.report.removal.words import number

MOST_BYTES = 1 << 26
_MOST_POINTS = 300
"""Of one line; more are drawn as means of as many steps each as it takes."""

_CHARTS = (
    (
        "recalled",
        "Tokens recalled",
        "Share of tokens that are the likeliest given the true ones before, %. Forget: down to the references'. "
        "Retain: should stay.",
        {"forget_em": "forget", "retain_em": "retain", "holdout_em": "holdout"},
    ),
    (
        "nll",
        "Loss by set",
        "Nats a token. Forget: up to the references'. Retain: should stay.",
        {"forget_nll": "forget", "retain_nll": "retain", "holdout_nll": "holdout"},
    ),
    (
        "auc",
        "Membership AUC",
        "Towards the references': below it what is forgotten looks familiar, above it it stands out.",
        {"auc": "forget against holdout"},
    ),
)
_KINDS = ("first", "second", "third")


class Look(NamedTuple):
    """What a stopping rule measured at a step; a value that was not finite is None."""

    step: float
    values: dict[str, float | None]


class Curves(NamedTuple):
    """The curves of a run.

    Attributes
    ----------
    losses
        The objective before each step's update.
    looks
        In the order of steps; none without a stopping rule.
    kept_step
        The look whose weights were kept; None without a rule.
    ended
        The rule that ended the run, with its figures.
    """

    losses: tuple[float | None, ...] = ()
    looks: tuple[Look, ...] = ()
    kept_step: float | None = None
    ended: str = ""


def read_curves(data: bytes) -> Curves:
    """Read the artefact that ``Result.curve`` names.

    Raises
    ------
    DataLoss
        ARTIFACT_CORRUPT: it is not what the contract describes.
    """
    try:
        found: Any = decode(data, max_bytes=MOST_BYTES)
        looks = tuple(
            Look(float(each["step"]), {str(name): _number(value) for name, value in each["values"].items()})
            for each in found.get("looks", ())
        )
        kept = _number(found.get("kept_step"))
        return Curves(tuple(map(_number, found["losses"])), looks, kept, str(found.get("ended", "")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"The curves of the training run cannot be read: {type(error).__name__}."
        raise DataLoss(Reason.ARTIFACT_CORRUPT, message) from None


def curves_section(curves: Curves | None) -> str:
    """The section of the page; ``None`` stands for curves that are no longer kept."""
    if curves is None:
        return "<p>The curves of this run are not kept.</p>"
    figures = []
    steps = len(curves.losses)
    drawn = curve("loss", "Loss of the objective", [Line("loss", "first", _thinned(curves.losses))])
    if drawn:
        says = f"Before each step’s update; it tells that training went on, not what was forgotten. {_as_means(steps)}"
        figures.append(_figure("Loss of the objective", says, drawn, ()))
    for key, title, says, names in _CHARTS:
        lines = [
            Line(
                label, kind, [(look.step, look.values[name]) for look in curves.looks if name in look.values]
            )
            for (name, label), kind in zip(names.items(), _KINDS, strict=False)
        ]
        lines = [each for each in lines if each.points]
        if lines and (drawn := curve(key, title, lines, curves.kept_step)):
            figures.append(_figure(title, says, drawn, lines))
    if not figures:
        return "<p>Nothing was trained by steps.</p>"
    told = ""
    if curves.looks:
        kept = (
            f"The weights kept are those of step {curves.kept_step:g}. "
            if curves.kept_step is not None
            else ""
        )
        ended = (
            f"Training ended by {escape(curves.ended)}." if curves.ended else "Training used all its steps."
        )
        told = f"<p>{kept}{ended}</p>"
    return f'{told}<div class="plots">{"".join(figures)}</div>{_table(curves.looks)}'


def _figure(title: str, says: str, drawn: str, lines: Sequence[Line]) -> str:
    keys = "".join(f'<span class="key {each.kind}">{escape(each.name)}</span> ' for each in lines)
    caption = f"<b>{escape(title)}</b><br><small>{escape(says)}</small>{keys and '<br>' + keys}"
    return f"<figure><figcaption>{caption}</figcaption>{drawn}</figure>"


def _table(looks: Sequence[Look]) -> str:
    """All looks as figures, for those who read rather than see."""
    if not looks:
        return ""
    names = list(dict.fromkeys(name for look in looks for name in look.values))
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("step", *names))
    rows = "".join(
        f'<tr><th scope="row">{look.step:.4g}</th>'
        + "".join(f"<td>{_shown(look.values.get(n))}</td>" for n in names)
        + "</tr>"
        for look in looks
    )
    return (
        "<details><summary>Every look in figures</summary>"
        '<div class="wide" tabindex="0" role="region" aria-label="Every look in figures">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _shown(value: float | None) -> str:
    return "not finite" if value is None else number(value)


def _thinned(losses: Sequence[float | None]) -> list[tuple[float, float | None]]:
    size = _bucket(len(losses))
    if size == 1:
        return [(step, loss) for step, loss in enumerate(losses, 1)]
    points: list[tuple[float, float | None]] = []
    for first in range(0, len(losses), size):
        part = losses[first : first + size]
        finite = [loss for loss in part if loss is not None]
        mean = fmean(finite) if len(finite) == len(part) else None
        points.append((first + (len(part) + 1) / 2, mean))
    return points


def _bucket(steps: int) -> int:
    return max(1, math.ceil(steps / _MOST_POINTS))


def _as_means(steps: int) -> str:
    size = _bucket(steps)
    return f"Means of {size} steps each." if size > 1 else ""


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
