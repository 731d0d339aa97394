"""``palimpsest unlearn report``: the tables of a result."""

from collections.abc import Sequence
from typing import Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.cli.output import printing as output


def show(result: pb.Result) -> None:
    """Print what was measured, what attacks brought back, and what was deleted."""
    rows: list[tuple[object, ...]] = [
        (
            c.name,
            verdict_name(c.verdict),
            f"{c.value:.4g}",
            f"{c.before:.4g}",
            _numbers(c.references),
            f"{c.band:.3g}",
        )
        for c in result.criteria
    ]
    output.print_table(["criterion", "verdict", ">value", ">before", ">references", ">band"], rows)
    rows = [(m.metric, m.model, f"{m.value:.4g}", _interval(m), m.unit, m.count) for m in result.measurements]
    output.print_table(["metric", "model", ">value", "95 % interval", "unit", ">n"], rows)
    _show_attacks(result.attacks)
    rows = [(s.name, s.deleted, s.missing, "absent" if s.absent else "PRESENT") for s in result.stores]
    output.print_table(["store", ">deleted", ">missing", "now"], rows)


def verdict_name(number: Any) -> str:
    """A verdict as people read it."""
    return pb.Verdict.Name(number).removeprefix("VERDICT_").lower() if number else ""


def _show_attacks(attacks: Sequence[pb.AttackResult]) -> None:
    """The table of attacks, those that could not be measured, and the precisions that something is known of."""
    missing = [any(each.model == "after" for each in a.not_measured) for a in attacks]
    rows: list[tuple[object, ...]] = [
        (
            a.attack,
            a.precision,
            a.metric,
            f"{a.before:.4g}",
            "" if unknown else f"{a.after:.4g}",
            _numbers(a.reference_gains),
            "not measured" if unknown else "yes" if a.failed else "no",
        )
        for a, unknown in zip(attacks, missing, strict=True)
    ]
    output.print_table(
        ["attack", "precision", "metric", ">before", ">after", ">references gain", "brings it back"], rows
    )
    failures = dict.fromkeys((a.attack, each.model, each.message) for a in attacks for each in a.not_measured)
    if failures:
        output.print_table(["not measured", "on", "why"], list(failures))
    tested = sorted({a.precision for a, unknown in zip(attacks, missing, strict=True) if not unknown})
    if attacks:
        output.note(
            f"Attacked at these precisions of the weights: {', '.join(tested) or 'none'}. Nothing is said of any other."
        )


def _numbers(values: Any) -> str:
    return ", ".join(f"{each:.4g}" for each in values)


def _interval(found: pb.Measurement) -> str:
    return f"{found.low:.4g} to {found.high:.4g}" if found.HasField("low") else ""
