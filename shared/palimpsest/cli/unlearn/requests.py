"""``palimpsest unlearn``: previewing, submitting and following removal requests."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.cli.corpus.commands import Wait
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.paging import all_pages
from palimpsest.cli.output.progress import follow
from palimpsest.cli.session import Session, command
from palimpsest.cli.unlearn import plans, reports
from palimpsest.cli.unlearn.reports import verdict_name
from palimpsest.client import Client

Name = Annotated[str, typer.Argument(metavar="REQUEST", help="removalRequests/ID, or the ID alone.")]
_PREFIX = "removalRequests/"


def full_name(name: str) -> str:
    """Return the full name of a request."""
    return name if name.startswith(_PREFIX) else _PREFIX + name


def add(app: typer.Typer) -> None:
    """Add the commands."""
    for function in (preview, submit, get, watch, hold, approve, rollback, report, certificate):
        command(app)(function)
    command(app, "list")(list_)


def preview(
    session: Session,
    model: plans.Model,
    new_model: plans.NewModel,
    forget: plans.Forget,
    algorithm: plans.Algorithm,
    retain: plans.Retain = "",
    holdout: plans.Holdout = "",
    utility: plans.Utility = "",
    reference: plans.References = None,
    parameters: plans.Parameters = None,
    steps: plans.Steps = 0,
    learning_rate: plans.Rate = 0.0,
    batch: plans.Batch = 0,
    seed: plans.Seed = 0,
    lora_rank: plans.LoraRank = 0,
    stop: plans.Stop = "",
    purge: plans.Purge = None,
    ngrams: plans.Ngrams = None,
    context: plans.Contexts = None,
    attack: plans.Attacks = None,
    attack_steps: plans.AttackSteps = 0,
    attack_rate: plans.AttackRate = 0.0,
    attack_seed: plans.AttackSeed = 0,
    unrelated: plans.Unrelated = "",
    never_knew: plans.NeverKnew = "",
    delete_forget_set: plans.DeleteForget = False,
) -> None:
    """Say what a removal would do: counts, what is in the retain set too, stores, cost. Uploads the files."""
    options = dict(locals())
    with session.client() as client:
        found = client.unlearning.preview_removal(plan=plans.plan_of(client, options))
    if session.json:
        output.print_json(found)
        return
    sets = [(name, getattr(found, name)) for name in ("forget", "retain", "holdout", "utility")]
    rows = [(name, s.documents, s.questions, s.tokens) for name, s in sets if s.artifact]
    output.print_table(["set", ">documents", ">questions", ">tokens"], rows)
    fields: dict[str, object] = {
        "steps": found.steps,
        "training": f"{found.training_tokens} tokens, {found.training_flops:.2g} floating-point operations",
        "new model": output.size(found.model_bytes),
        "ahead": f"{found.ahead} requests on the same lineage",
        "attacks": ", ".join(found.attacks),
    }
    output.print_fields(fields | dict(found.parameters))
    if found.stores:
        rows = [(s.name, s.present, s.missing) for s in found.stores]
        output.print_table(["store", ">there", ">missing"], rows)
    if found.overlaps:
        rows = [(o.forget, o.retain, f"{o.share:.0%}") for o in found.overlaps]
        output.print_table(["to forget", "also in the retain set as", ">share"], rows)
        output.note(
            "A request with these would be refused: training would teach them again. Take them out first."
        )
    if found.holdout_overlaps:
        rows = [(o.holdout, o.set, o.other, f"{o.share:.0%}") for o in found.holdout_overlaps]
        output.print_table(["of the holdout set", "also in", "as", ">share"], rows)
        output.note("A request with these would be refused: they are not unseen. Take them out first.")
    if found.HasField("lengths") and not found.lengths.matched:
        output.note(
            "Documents of the holdout set are longer or shorter than those to be forgotten "
            f"(p = {found.lengths.p_value:.2g}), so that length alone may tell them apart. Choose others, or cut both."
        )


def submit(
    session: Session,
    model: plans.Model,
    new_model: plans.NewModel,
    forget: plans.Forget,
    algorithm: plans.Algorithm,
    retain: plans.Retain = "",
    holdout: plans.Holdout = "",
    utility: plans.Utility = "",
    reference: plans.References = None,
    parameters: plans.Parameters = None,
    steps: plans.Steps = 0,
    learning_rate: plans.Rate = 0.0,
    batch: plans.Batch = 0,
    seed: plans.Seed = 0,
    lora_rank: plans.LoraRank = 0,
    stop: plans.Stop = "",
    purge: plans.Purge = None,
    ngrams: plans.Ngrams = None,
    context: plans.Contexts = None,
    attack: plans.Attacks = None,
    attack_steps: plans.AttackSteps = 0,
    attack_rate: plans.AttackRate = 0.0,
    attack_seed: plans.AttackSeed = 0,
    unrelated: plans.Unrelated = "",
    never_knew: plans.NeverKnew = "",
    delete_forget_set: plans.DeleteForget = False,
    request: Annotated[str, typer.Option("--id", help="Id of the request; empty: one is made.")] = "",
    hold_: Annotated[bool, typer.Option("--hold", help="Hold it until it is approved.")] = False,
    wait: Wait = True,
) -> None:
    """Submit a removal request, and follow it to its verdict."""
    options = dict(locals())
    with session.client() as client:
        job = client.unlearning.create_removal_request(
            plan=plans.plan_of(client, options), removal_id=request or None, hold=hold_
        )
        if hold_ or not wait:
            session.show(client.jobs.get(job.name))
            return
        done = follow(job, "Removing")
    _show(session, done)


def list_(session: Session) -> None:
    """List the requests."""
    with session.client() as client:
        found = all_pages(client.unlearning.list_removal_requests, "removal_requests")
    if session.json:
        output.print_json([output.plain(each) for each in found])
        return
    rows = [
        (
            each.name.removeprefix(_PREFIX),
            _state(each),
            verdict_name(each.result.verdict),
            each.plan.model,
            each.plan.new_model,
            each.plan.algorithm,
            output.when(each.create_time),
        )
        for each in found
    ]
    output.print_table(["request", "state", "verdict", "model", "new model", "algorithm", "created"], rows)


def get(session: Session, name: Name) -> None:
    """Show a request."""
    with session.client() as client:
        _show(session, client.unlearning.get_removal_request(name=full_name(name)))


def watch(session: Session, name: Name) -> None:
    """Follow a request to its end; exit with its error if it fails."""
    with session.client() as client:
        found = client.unlearning.get_removal_request(name=full_name(name))
        if found.operation:
            follow(client.job(found.operation), found.name)
            found = client.unlearning.get_removal_request(name=full_name(name))
    _show(session, found)


def hold(session: Session, name: Name) -> None:
    """Hold a request that waits."""
    _change(session, name, lambda client: client.unlearning.hold_removal_request)


def approve(session: Session, name: Name) -> None:
    """Let a held request run."""
    _change(session, name, lambda client: client.unlearning.approve_removal_request)


def rollback(session: Session, name: Name) -> None:
    """Take a finished request back: revoke its certificate and delete the model it made."""
    _change(session, name, lambda client: client.unlearning.roll_back_removal_request)


def report(session: Session, name: Name) -> None:
    """Show what was measured, what attacks brought back, and what was deleted."""
    with session.client() as client:
        found = client.unlearning.get_removal_request(name=full_name(name))
    if session.json:
        output.print_json(found.result)
        return
    output.print_fields(
        {"request": found.name, "state": _state(found), "verdict": verdict_name(found.result.verdict)}
    )
    reports.show(found.result)


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


def _change(session: Session, name: str, call: Callable[[Client], Callable[..., pb.RemovalRequest]]) -> None:
    with session.client() as client:
        _show(session, call(client)(name=full_name(name)))


def _show(session: Session, found: pb.RemovalRequest) -> None:
    if session.json:
        output.print_json(found)
        return
    fields: dict[str, Any] = {
        "name": found.name,
        "state": _state(found),
        "job": found.operation.removeprefix("operations/"),
        "model": found.plan.model,
        "new model": found.plan.new_model,
        "algorithm": found.plan.algorithm,
        "created": output.when(found.create_time),
    }
    if found.HasField("result"):
        fields |= {
            "verdict": verdict_name(found.result.verdict),
            "compared with": found.result.reference,
            "steps": found.result.steps,
            "certificate": found.result.certificate,
        }
    if found.HasField("error"):
        fields["error"] = found.error.message
    output.print_fields(fields)


def _state(found: pb.RemovalRequest) -> str:
    return pb.RemovalState.Name(found.state).removeprefix("REMOVAL_STATE_").lower()
