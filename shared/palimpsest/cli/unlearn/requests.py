"""``palimpsest unlearn``: previewing, submitting and following removal requests."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.cli.corpus.commands import Wait
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.paging import all_pages
from palimpsest.cli.output.progress import follow
from palimpsest.cli.session import Session, command
from palimpsest.cli.unlearn import plans, reports
from palimpsest.cli.unlearn.names import Name, full_name, short_name
from palimpsest.client import Client
from palimpsest.report.removal.words import state_word, verdict_word


def add(app: typer.Typer) -> None:
    """Add the commands."""
    for function in (
        preview,
        submit,
        get,
        watch,
        hold,
        approve,
        rollback,
        reports.report,
        reports.certificate,
    ):
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
    start: plans.Start = "",
    teacher: plans.Teacher = "",
    replay: plans.Replay = 0,
    steps: plans.Steps = 0,
    learning_rate: plans.Rate = 0.0,
    batch: plans.Batch = 0,
    seed: plans.Seed = 0,
    lora_rank: plans.LoraRank = 0,
    stop: plans.Stop = "",
    search: plans.Search = None,
    purge: plans.Purge = None,
    ngrams: plans.Ngrams = None,
    context: plans.Contexts = None,
    attack: plans.Attacks = None,
    attack_steps: plans.AttackSteps = 0,
    attack_rate: plans.AttackRate = 0.0,
    attack_seed: plans.AttackSeed = 0,
    unrelated: plans.Unrelated = "",
    never_knew: plans.NeverKnew = "",
    coalesce: plans.Coalesce = False,
    delete_forget_set: plans.DeleteForget = False,
    utility_budget: plans.Budget = 0.0,
) -> None:
    """Say what a removal would do: counts, what is in the retain set too, stores, cost. Uploads the files."""
    options = dict(locals())
    plans.check(options)
    with session.client() as client:
        found = client.unlearning.preview_removal(plan=plans.plan_of(client, options))
    if session.json:
        output.print_json(found)
        return
    _show_preview(found)


def _show_preview(found: pb.RemovalPreview) -> None:
    sets = [(name, getattr(found, name)) for name in ("forget", "retain", "holdout", "utility")]
    rows = [(name, s.documents, s.questions, s.tokens) for name, s in sets if s.artifact]
    output.print_table(["set", ">documents", ">questions", ">tokens"], rows)
    fields: dict[str, object] = {
        "steps": found.steps,
        "training": f"{found.training_tokens} tokens, {found.training_flops:.2g} floating-point operations",
        "new model": output.size(found.model_bytes),
        "ahead": f"{found.ahead} requests on the same lineage",
        "earlier requests": f"{found.earlier_requests}, which the new model is measured for again",
        "attacks": ", ".join(found.attacks),
    }
    if found.alike:
        fields["trained with"] = f"{found.alike} of them, if they still wait by then"
    if found.utility_budget:
        fields["utility lost"] = f"{found.total_utility_loss:.4g} of {found.utility_budget:g} points allowed"
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
    start: plans.Start = "",
    teacher: plans.Teacher = "",
    replay: plans.Replay = 0,
    steps: plans.Steps = 0,
    learning_rate: plans.Rate = 0.0,
    batch: plans.Batch = 0,
    seed: plans.Seed = 0,
    lora_rank: plans.LoraRank = 0,
    stop: plans.Stop = "",
    search: plans.Search = None,
    purge: plans.Purge = None,
    ngrams: plans.Ngrams = None,
    context: plans.Contexts = None,
    attack: plans.Attacks = None,
    attack_steps: plans.AttackSteps = 0,
    attack_rate: plans.AttackRate = 0.0,
    attack_seed: plans.AttackSeed = 0,
    unrelated: plans.Unrelated = "",
    never_knew: plans.NeverKnew = "",
    coalesce: plans.Coalesce = False,
    delete_forget_set: plans.DeleteForget = False,
    utility_budget: plans.Budget = 0.0,
    request: Annotated[str, typer.Option("--id", help="Id of the request; empty: one is made.")] = "",
    hold_: Annotated[bool, typer.Option("--hold", help="Hold it until it is approved.")] = False,
    wait: Wait = True,
) -> None:
    """Submit a removal request, and follow it to its verdict.

    Without --wait or when interrupted, `palimpsest unlearn watch` comes back to it.
    """
    options = dict(locals())
    plans.check(options)
    with session.client() as client:
        job = client.unlearning.create_removal_request(
            plan=plans.plan_of(client, options), removal_id=request or None, hold=hold_
        )
        found = _of_job(client, job.name)
        if not hold_ and wait:
            output.note(found.name)
            found = follow(job, "Removing")
    _show(session, found)
    if not session.json:
        _tell_next(found)


def list_(session: Session) -> None:
    """List the requests."""
    with session.client() as client:
        found = all_pages(client.unlearning.list_removal_requests, "removal_requests")
    if session.json:
        output.print_json([output.plain(each) for each in found])
        return
    rows = [
        (
            short_name(each.name),
            state_word(each),
            verdict_word(each.result.verdict),
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
            if found.state == pb.REMOVAL_STATE_HELD and not session.json:
                _tell_next(found)
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


def _change(session: Session, name: str, call: Callable[[Client], Callable[..., pb.RemovalRequest]]) -> None:
    with session.client() as client:
        _show(session, call(client)(name=full_name(name)))


def _of_job(client: Client, operation: str) -> pb.RemovalRequest:
    """The request whose job it is: the server may have made its id."""
    found = all_pages(client.unlearning.list_removal_requests, "removal_requests")
    return next(each for each in reversed(list(found)) if each.operation == operation)


def _tell_next(found: pb.RemovalRequest) -> None:
    """Say which command goes on from here."""
    command = {
        pb.REMOVAL_STATE_HELD: "approve",
        pb.REMOVAL_STATE_QUEUED: "watch",
        pb.REMOVAL_STATE_SUCCEEDED: "report",
    }.get(found.state)
    if command is not None:
        output.note(f"Next: palimpsest unlearn {command} {short_name(found.name)}")


def _show(session: Session, found: pb.RemovalRequest) -> None:
    if session.json:
        output.print_json(found)
        return
    fields: dict[str, Any] = {
        "name": found.name,
        "state": state_word(found),
        "job": found.operation.removeprefix("operations/"),
        "model": found.plan.model,
        "new model": found.plan.new_model,
        "algorithm": found.plan.algorithm,
        "created": output.when(found.create_time),
    }
    if found.HasField("shared_run"):
        fields["one run for"] = ", ".join(map(short_name, found.shared_run.requests))
    if found.HasField("result"):
        fields |= {
            "verdict": verdict_word(found.result.verdict),
            "compared with": found.result.reference,
            "steps": found.result.steps,
            "certificate": found.result.certificate,
        }
    if found.HasField("error"):
        fields["error"] = found.error.message
    output.print_fields(fields)
