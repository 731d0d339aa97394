"""The tables of a request's page."""

from collections.abc import Sequence
from html import escape

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.report.page import table
from palimpsest.report.removal.axes import Axis
from palimpsest.report.removal.plots import whose
from palimpsest.report.removal.targets import (
    attack_target,
    failures,
    is_measured,
    precisions,
    target_of,
    targets_of,
    value_of,
)
from palimpsest.report.removal.words import VERDICTS, metric_named, number, verdict_word


def verdict_badge(word: str) -> str:
    """A verdict with its mark."""
    known = VERDICTS.get(word)
    mark = f'<span aria-hidden="true">{known.mark if known else "·"}</span>'
    return f'<span class="verdict {escape(word)}">{mark} {escape(word.replace("_", " "))}</span>'


def axes_table(axes: Sequence[Axis]) -> str:
    """The figures of the radar, and of axes that are left out the reason."""
    rows = [
        (escape(axis.label), "" if axis.value is None else f"{axis.value:.0%}", "↑ 100 %", escape(axis.why))
        for axis in axes
    ]
    return table("The six axes", ["axis", ">reached", ">target", "what it rests on"], rows)


def criteria_table(result: pb.Result) -> str:
    """Criteria: what was judged, by what target, with what verdict."""
    rows = []
    for each in result.criteria:
        target, before = target_of(each) if each.references else None, value_of(each, each.before)
        rows.append(
            (
                _metric(each.name),
                number(before),
                number(value_of(each, each.value)),
                ", ".join(number(value_of(each, one)) for one in each.references),
                f"{target.direction(before)}: {target.text()}" if target else "",
                verdict_badge(verdict_word(each.verdict)),
            )
        )
    columns = ["criterion", ">before", ">after", ">compared with", "target", "finding"]
    return table("Criteria", columns, rows) if rows else "<p>Nothing could be judged.</p>"


def measurements_table(result: pb.Result) -> str:
    """All measurements with their intervals, each with its target."""
    targets = targets_of(result)
    before = {each.metric: each.value for each in result.measurements if each.model == "before"}
    rows = []
    for each in result.measurements:
        target = targets.get(each.metric)
        wanted = ""
        if each.model == "after" and target is not None:
            wanted = f"{target.direction(before.get(each.metric, each.value))}: {target.text()}"
        interval = f"{number(each.low)} to {number(each.high)}" if each.HasField("low") else ""
        model = each.model if each.metric != "privleak" else f"after, against {whose(each, ())}"
        rows.append(
            (
                _metric(each.metric), escape(model), number(each.value), interval, wanted, escape(each.unit),
                str(each.count), escape(each.convention),
            )
        )  # fmt: skip
    columns = ["metric", "model", ">value", ">95 % interval", "target", "unit", ">items", "convention"]
    return table("Measurements", columns, rows)


def attacks_table(result: pb.Result) -> str:
    """Attacks: what each brings back, which could not be measured, and at what precisions of the weights."""
    rows = [_attack(each) for each in result.attacks]
    columns = [
        "attack", "precision", "metric", ">unattacked", ">attacked", ">gain", ">95 % interval", ">references gain",
        "target", "finding",
    ]  # fmt: skip
    if not rows:
        return "<p>No attack was measured.</p>"
    found = [table("Attacks", columns, rows)]
    if broken := [tuple(map(escape, each)) for each in failures(result.attacks)]:
        found.append(table("Attacks that could not be measured", ["attack", "on", "why"], broken))
    tested = escape(", ".join(precisions(result.attacks)) or "none")
    found.append(
        f"<p>Attacked at these precisions of the weights: {tested}. Nothing is said of any other.</p>"
    )
    return "\n".join(found)


def _attack(row: pb.AttackResult) -> tuple[str, ...]:
    head = (escape(row.attack), escape(row.precision), _metric(row.metric), number(row.before))
    if not is_measured(row):
        return (*head, "", "", "", "", "", "<span>not measured</span>")
    return (
        *head,
        number(row.after),
        f"{row.gain:+.3g}",
        f"{number(row.gain_low)} to {number(row.gain_high)}",
        ", ".join(f"{gain:+.3g}" for gain in row.reference_gains),
        f"↓ {attack_target(row)}",
        _finding(row),
    )


def _finding(row: pb.AttackResult) -> str:
    if row.failed:
        return '<b><span aria-hidden="true">✗</span> brings it back</b>'
    return '<span><span aria-hidden="true">✓</span> holds</span>'


def earlier_table(result: pb.Result) -> str:
    """Earlier requests that led to the model: whether what they removed has come back, and what all have cost."""
    rows = [
        (
            escape(each.name.rpartition("/")[2]),
            _metric(each.metric) if each.metric else "",
            number(each.then) if each.metric else "",
            number(each.now) if each.HasField("now") else "",
            _come_back(each),
        )
        for each in result.earlier_requests
    ]
    columns = ["request", "metric", ">then", ">now", "finding"]
    found = [table("Earlier requests", columns, rows) if rows else "<p>None led to the model before.</p>"]
    if result.HasField("total_utility_loss"):
        allowed = f" of {number(result.utility_budget)} allowed" if result.utility_budget else ""
        lost = f"{number(result.utility_loss)} points, {number(result.total_utility_loss)} in all{allowed}"
        found.append(f"<p>Utility lost: {lost}.</p>")
    return "\n".join(found)


def _come_back(row: pb.EarlierRequest) -> str:
    if row.skipped:
        return f"<span>not measured again: {escape(row.skipped.replace('_', ' '))}</span>"
    if row.reemerged:
        return '<b><span aria-hidden="true">✗</span> has come back</b>'
    return '<span><span aria-hidden="true">✓</span> stays removed</span>'


def stores_table(result: pb.Result) -> str:
    """Stores: what was deleted, and how its absence was checked."""
    rows = [
        (
            escape(each.name),
            str(each.deleted),
            str(each.missing),
            f"{each.shingles:,} pieces of text in {each.scanned_bytes:,} bytes" if each.shingles else "asked",
            "absent" if each.absent else "<b>PRESENT</b>",
            "absent",
        )
        for each in result.stores
    ]
    columns = ["store", ">deleted", ">never there", "searched for", "now", "target"]
    return table("Stores", columns, rows) if rows else "<p>The request names no stores.</p>"


def _metric(name: str) -> str:
    found = metric_named(name)
    return (
        f"<abbr title='{escape(found.says)}'>{escape(found.label)}</abbr>"
        if found.says
        else escape(found.label)
    )
