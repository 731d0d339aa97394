"""``palimpsest unlearn report`` and ``certificate``: what a request found, in tables, as a page, and signed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.cli.output import printing as output
from palimpsest.cli.session import Session
from palimpsest.cli.unlearn import grafts
from palimpsest.cli.unlearn.names import Name, full_name, short_name
from palimpsest.client import Client
from palimpsest.errors import DataLoss, FailedPrecondition, NotFound, Reason
from palimpsest.report.removal.axes import axes_of
from palimpsest.report.removal.curves import MOST_BYTES, Curves, read_curves
from palimpsest.report.removal.page import removal_page
from palimpsest.report.removal.targets import (
    attack_target,
    failures,
    is_measured,
    precisions,
    target_of,
    targets_of,
    value_of,
)
from palimpsest.report.removal.words import number, state_word, verdict_word

HtmlFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Also write a page with drawings and curves.")
]


def report(session: Session, name: Name, html: HtmlFile = None, graft: grafts.GraftFile = None) -> None:
    """Show what was measured, what attacks brought back, and what was deleted; each number with its target.

    --html also writes a page that needs nothing else: six axes, measurements with intervals, curves, attacks, evidence.
    --graft adds what grafts of the model before into the model after tell: is what was forgotten gone, or hidden?
    """
    with session.client() as client:
        found = client.unlearning.get_removal_request(name=full_name(name))
        _require_result(found)
        table = grafts.read(graft, found) if graft else None
        if html:
            html.write_text(removal_page(found, _curves(client, found.result), table), encoding="utf-8")
            output.note(f"Wrote {html}.")
    if session.json:
        output.print_json(found.result)
        return
    show(found)
    grafts.show(found, table)


def certificate(
    session: Session,
    name: Name,
    folder: Annotated[Path, typer.Option("--folder", help="Where the files go.")] = Path(),
) -> None:
    """Save a request's certificate, with the log, the public key and the revocation list that verify it."""
    with session.client() as client:
        found = client.unlearning.get_certificate(name=full_name(name))
        log = b"".join(part.data for part in client.unlearning.read_audit_log())
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "certificate.json": found.certificate,
        "key.public.json": found.public_key,
        "revoked.json": found.revocations,
        "log.jsonl": log,
    }
    for file, data in files.items():
        (folder / file).write_bytes(data)
    if session.json:
        output.print_json({"files": [str(folder / file) for file in files]})
        return
    at = f"{folder}/" if str(folder) != "." else ""
    typer.echo(
        f"palimpsest unlearn verify {at}certificate.json --log {at}log.jsonl --key {at}key.public.json "
        f"--revoked {at}revoked.json"
    )


def _require_result(found: pb.RemovalRequest) -> None:
    if found.HasField("result"):
        return
    state, short = state_word(found), short_name(found.name)
    advice = {
        "held": f"approve it: palimpsest unlearn approve {short}",
        "failed": f"see why: palimpsest unlearn get {short}",
        "cancelled": "submit it again under another id",
        "received": "submit it again: its job was not recorded",
    }.get(state, f"wait for it: palimpsest unlearn watch {short}")
    message = f"{found.name} is {state} and has nothing to report; {advice}"
    raise FailedPrecondition(Reason.REMOVAL_STATE, message, metadata={"state": state})


def _curves(client: Client, result: pb.Result) -> Curves | None:
    """The curves of the run; None where they are gone or damaged, which is no reason to show nothing."""
    if not result.curve:
        return None
    try:
        if client.artifacts.get_artifact(digest=result.curve).size_bytes > MOST_BYTES:
            output.note("The curves are too long for a page, which leaves them out.")
            return None
        return read_curves(client.artifacts.read_bytes(result.curve))
    except (NotFound, DataLoss) as error:
        output.note(f"The page leaves the curves out: {error.message}")
        return None


def show(found: pb.RemovalRequest) -> None:
    """Print what is known of a request with a result."""
    result = found.result
    fields: dict[str, Any] = {
        "request": found.name,
        "state": state_word(found),
        "verdict": verdict_word(result.verdict),
        "compared with": result.reference,
        "trained together": ", ".join(map(short_name, result.trained_together)),
        "certificate": result.certificate,
    }
    output.print_fields({field: value for field, value in fields.items() if value})
    axes = [
        (each.label, "" if each.value is None else f"{each.value:.0%}", each.why) for each in axes_of(result)
    ]
    output.print_table(["axis", ">reached of 100 %", "what it rests on"], axes)
    _print(
        ["criterion", "verdict", ">value", ">before", ">references", "target"],
        map(_criterion, result.criteria),
    )
    targets = targets_of(result)
    before = {each.metric: each.value for each in result.measurements if each.model == "before"}
    rows: list[tuple[object, ...]] = []
    for m in result.measurements:
        target = targets.get(m.metric) if m.model == "after" else None
        wanted = f"{target.direction(before.get(m.metric, m.value))}: {target.text()}" if target else ""
        rows.append((m.metric, m.model, number(m.value), _interval(m), wanted, m.unit, m.count))
    _print(["metric", "model", ">value", "95 % interval", "target", "unit", ">n"], rows)
    show_attacks(result.attacks)
    rows = [(s.name, s.deleted, s.missing, "absent" if s.absent else "PRESENT") for s in result.stores]
    _print(["store", ">deleted", ">missing", "now"], rows)
    _show_search(result)
    _show_past(result)


def _print(columns: list[str], rows: Any) -> None:
    """Print a table that has rows."""
    if kept := list(rows):
        output.print_table(columns, kept)


def _criterion(found: pb.Criterion) -> tuple[object, ...]:
    target, before = target_of(found) if found.references else None, value_of(found, found.before)
    return (
        found.name,
        verdict_word(found.verdict),
        number(value_of(found, found.value)),
        number(before),
        ", ".join(number(value_of(found, each)) for each in found.references),
        f"{target.direction(before)}: {target.text()}" if target else "",
    )


def show_attacks(attacks: Sequence[pb.AttackResult]) -> None:
    """Print what attacks brought back, which could not be measured, and at what precisions of the weights."""
    columns = [
        "attack", "precision", "metric", ">before", ">after", ">gain", "95 % interval", ">references gain",
        "target of the gain", "brings it back",
    ]  # fmt: skip
    _print(columns, map(_attack, attacks))
    _print(["not measured", "on", "why"], failures(attacks))
    if attacks:
        tested = ", ".join(precisions(attacks)) or "none"
        output.note(f"Attacked at these precisions of the weights: {tested}. Nothing is said of any other.")


def _attack(found: pb.AttackResult) -> tuple[object, ...]:
    head = (found.attack, found.precision, found.metric, number(found.before))
    if not is_measured(found):
        return (*head, "", "", "", "", "", "not measured")
    return (
        *head,
        number(found.after),
        f"{found.gain:+.3g}",
        f"{number(found.gain_low)} to {number(found.gain_high)}",
        ", ".join(f"{each:+.3g}" for each in found.reference_gains),
        f"↓ {attack_target(found)}",
        "yes" if found.failed else "no",
    )


def _interval(found: pb.Measurement) -> str:
    return f"{number(found.low)} to {number(found.high)}" if found.HasField("low") else ""


def _show_search(result: pb.Result) -> None:
    rows = [
        (
            each.round + 1,
            each.steps,
            f"{each.learning_rate:g}",
            f"{each.retain_weight:g}",
            f"{each.beta:g}",
            number(each.cost),
            "yes" if each.chosen else "",
        )
        for each in result.trials
    ]
    _print([">round", ">steps", ">learning rate", ">retain weight", ">beta", ">cost", "chosen"], rows)
    if rows:
        output.note("Trials saw one half of the data; what was measured above is of the other.")


def _show_past(result: pb.Result) -> None:
    if result.HasField("total_utility_loss"):
        allowed = f" of {result.utility_budget:g} allowed" if result.utility_budget else ""
        lost = f"{number(result.utility_loss)} points, {number(result.total_utility_loss)} in all{allowed}"
        output.print_fields({"utility lost": lost})
    rows = [
        (
            each.name,
            each.metric,
            number(each.then) if each.metric else "",
            number(each.now) if each.HasField("now") else "",
            _come_back(each),
        )
        for each in result.earlier_requests
    ]
    _print(["earlier request", "metric", ">then", ">now", "come back"], rows)
    if result.other_requests:
        output.note(
            f"Other requests on this lineage, which did not lead to this model: {result.other_requests}. What they "
            "removed was not removed from it."
        )


def _come_back(found: pb.EarlierRequest) -> str:
    if found.skipped:
        return f"not re-checked: {found.skipped.replace('_', ' ')}"
    return "YES" if found.reemerged else "no"
