"""Scores for people (a table) and for programs (JSON)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from services.unlearning.metrics.scores import Score, finite

COLUMNS = ("metric", "value", "95 % interval", "target", "better", "n", "convention")
"""Heads of the table."""

_BETTER = {"lower": "lower", "higher": "higher", "target": "nearer"}


def as_json(scores: Iterable[Score], per_item_file: str = "") -> list[dict[str, Any]]:
    """Return scores as the content of ``metrics.json``; null stands for what is not known or not finite."""
    return [
        {
            "metric_id": score.metric,
            "definition_version": score.definition.version,
            "value": finite(score.value),
            "unit": score.definition.unit,
            "ci_lo": finite(score.interval[0]) if score.interval else None,
            "ci_hi": finite(score.interval[1]) if score.interval else None,
            "n": score.n,
            "direction": score.definition.direction,
            "target": finite(score.target),
            "convention": score.convention,
            "reference_id": score.reference,
            "per_item_file": per_item_file if score.items else "",
        }
        for score in scores
    ]


def item_lines(scores: Iterable[Score]) -> Iterator[dict[str, Any]]:
    """Yield the lines of ``items.jsonl``: ids and numbers, and never text, so nothing of the forget set is in them."""
    for score in scores:
        for item in score.items:
            line: dict[str, Any] = {"metric_id": score.metric, "convention": score.convention, "id": item.id}
            if item.group:
                line["group"] = item.group
            yield {**line, "value": finite(item.value)}


def as_table(scores: Iterable[Score], title: str = "") -> Table:
    """Return scores as a table of ``rich``."""
    table = Table(title=title or None, title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in ("value", "target", "n") else "left")
    for row in _rows(scores):
        table.add_row(*map(Text, row))
    return table


def as_markdown(scores: Iterable[Score]) -> str:
    """Return scores as a table in Markdown."""
    rule = ("---", "---:", "---", "---:", "---", "---:", "---")
    return "\n".join(f"| {' | '.join(row)} |" for row in (COLUMNS, rule, *_rows(scores))) + "\n"


def _rows(scores: Iterable[Score]) -> Iterator[Sequence[str]]:
    for score in scores:
        low_high = "" if score.interval is None else " to ".join(map(_number, score.interval))
        value = f"{_number(score.value)}{_unit(score.definition.unit)}"
        target = "" if score.target is None else _number(score.target)
        yield (
            score.metric, value, low_high, target, _BETTER[score.definition.direction], str(score.n), score.convention,
        )  # fmt: skip


def _unit(unit: str) -> str:
    return " %" if unit == "percent" else ""


def _number(value: float) -> str:
    if value and abs(value) < 0.001:
        return f"{value:.2e}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
