"""``palimpsest unlearn report``: what was found out about a request."""

from typing import Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.cli.output import printing as output
from palimpsest.cli.session import Session
from palimpsest.cli.unlearn.names import Name, full_name


def report(session: Session, name: Name) -> None:
    """Show what was measured, what attacks brought back, and what was deleted."""
    with session.client() as client:
        found = client.unlearning.get_removal_request(name=full_name(name))
    if session.json:
        output.print_json(found.result)
        return
    show(found)


def show(found: pb.RemovalRequest) -> None:
    """Print what is known of a request."""
    result = found.result
    output.print_fields(
        {"request": found.name, "state": state_of(found), "verdict": verdict_of(result.verdict)}
    )
    rows: list[tuple[object, ...]] = [
        (
            c.name,
            verdict_of(c.verdict),
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
    rows = [
        (
            a.attack,
            a.metric,
            f"{a.before:.4g}",
            f"{a.after:.4g}",
            _numbers(a.reference_gains),
            "yes" if a.failed else "",
        )
        for a in result.attacks
    ]
    output.print_table(["attack", "metric", ">before", ">after", ">references gain", "brings it back"], rows)
    rows = [(s.name, s.deleted, s.missing, "absent" if s.absent else "PRESENT") for s in result.stores]
    output.print_table(["store", ">deleted", ">missing", "now"], rows)
    if result.trials:
        rows = [
            (t.round + 1, t.steps, f"{t.learning_rate:g}", f"{t.retain_weight:g}", f"{t.beta:g}", f"{t.cost:.4g}",
             "yes" if t.chosen else "")
            for t in result.trials
        ]  # fmt: skip
        columns = [">round", ">steps", ">learning rate", ">retain weight", ">beta", ">cost", "chosen"]
        output.print_table(columns, rows)
        output.note("Trials saw one half of the data; what was measured above is of the other.")
    _show_past(result)


def state_of(found: pb.RemovalRequest) -> str:
    """The state of a request in a word."""
    return pb.RemovalState.Name(found.state).removeprefix("REMOVAL_STATE_").lower()


def verdict_of(number: Any) -> str:
    """A verdict in a word; nothing for none."""
    return pb.Verdict.Name(number).removeprefix("VERDICT_").lower() if number else ""


def _numbers(values: Any) -> str:
    return ", ".join(f"{each:.4g}" for each in values)


def _interval(found: pb.Measurement) -> str:
    return f"{found.low:.4g} to {found.high:.4g}" if found.HasField("low") else ""


def _show_past(result: pb.Result) -> None:
    if result.HasField("total_utility_loss"):
        allowed = f" of {result.utility_budget:g} allowed" if result.utility_budget else ""
        lost = f"{result.utility_loss:.4g} points, {result.total_utility_loss:.4g} in all{allowed}"
        output.print_fields({"utility lost": lost})
    rows = [
        (
            each.name,
            each.metric,
            f"{each.then:.4g}" if each.metric else "",
            f"{each.now:.4g}" if each.HasField("now") else "",
            _come_back(each),
        )
        for each in result.earlier_requests
    ]
    if rows:
        output.print_table(["earlier request", "metric", ">then", ">now", "come back"], rows)
    if result.other_requests:
        output.note(
            f"Other requests on this lineage, which did not lead to this model: {result.other_requests}. What they "
            "removed was not removed from it."
        )


def _come_back(found: pb.EarlierRequest) -> str:
    if found.skipped:
        return f"not re-checked: {found.skipped.replace('_', ' ')}"
    return "YES" if found.reemerged else "no"
