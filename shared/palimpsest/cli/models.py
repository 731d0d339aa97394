"""``palimpsest models``: register, look at and compare models."""

from typing import Annotated

import typer

from palimpsest.api.models.v1 import models_pb2
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.paging import all_pages
from palimpsest.cli.output.progress import follow
from palimpsest.cli.session import Session, command
from palimpsest.client import Client

app = typer.Typer(help="Models: register, list, compare, delete.", no_args_is_help=True)

ModelId = Annotated[str, typer.Argument(metavar="MODEL", help="Model id, such as smollm2-135m.")]
Wait = Annotated[bool, typer.Option(help="Wait for the job, or print it and return.")]


def all_models(client: Client) -> list[models_pb2.Model]:
    """Return every registered model, oldest first."""
    return all_pages(client.models.list_models, "models")


def labels_of(items: list[str] | None) -> dict[str, str]:
    """Read ``KEY=VALUE`` options.

    Raises
    ------
    typer.BadParameter
        One has no equals sign.
    """
    labels = {}
    for item in items or []:
        key, separator, value = item.partition("=")
        if not separator:
            raise typer.BadParameter(f"{item!r} is not KEY=VALUE", param_hint="--label")
        labels[key] = value
    return labels


def _table(models: list[models_pb2.Model], title: str = "") -> None:
    rows = [
        (
            m.model_id,
            m.architecture,
            f"{m.parameter_count / 1e6:.1f}M",
            output.size(m.size_bytes),
            m.dtype,
            m.context_length,
            m.parent or "-",
            m.fingerprint[:19],
        )
        for m in models
    ]
    columns = ["model", "architecture", ">parameters", ">size", "dtype", ">context", "parent", "fingerprint"]
    output.print_table(columns, rows, title=title)


@command(app, "list")
def list_(session: Session) -> None:
    """List the registered models, oldest first."""
    with session.client() as client:
        models = all_models(client)
    if session.json:
        output.print_json([output.plain(model) for model in models])
    else:
        _table(models)


@command(app)
def show(session: Session, model: ModelId) -> None:
    """Show one model's record."""
    with session.client() as client:
        session.show(client.models.get_model(model_id=model))


@command(app)
def register(
    session: Session,
    model: ModelId,
    source: Annotated[
        str, typer.Argument(help="Folder or .gguf file at the server, hub:OWNER/NAME, or sample.")
    ],
    parent: Annotated[str, typer.Option(help="Model this one was made from.")] = "",
    relation: Annotated[str, typer.Option(help="How: fine_tuned, unlearned, merged or quantized.")] = "",
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None,
    wait: Wait = True,
) -> None:
    """Register a model: check it, convert a GGUF file, fingerprint it."""
    labels = labels_of(label)
    with session.client() as client:
        job = client.models.register_model(
            model_id=model,
            source=source,
            parent=parent or None,
            relation=relation or None,
            labels=labels or None,
        )
        session.show(follow(job, f"Registering {model}") if wait else client.jobs.get(job.name))


@command(app)
def delete(session: Session, model: ModelId) -> None:
    """Forget a model, and delete the weights if the server made that copy."""
    with session.client() as client:
        client.models.delete_model(model_id=model)
    session.deleted(model)


@command(app)
def lineage(session: Session, model: ModelId) -> None:
    """Show a model's parents up to the root, and its children."""
    with session.client() as client:
        found = client.models.get_lineage(model_id=model)
    if session.json:
        output.print_json(found)
    else:
        _table(list(found.ancestors), "Parents, nearest first")
        _table(list(found.children), "Children")


@command(app, "check-pair")
def check_pair(
    session: Session,
    base: Annotated[str, typer.Argument(help="Model id of the base.")],
    donor: Annotated[str, typer.Argument(help="Model id of the donor.")],
    limit: Annotated[int, typer.Option(min=0, help="Most tensors to show.")] = 20,
) -> None:
    """Compare two models: whether the weights of one fit into the other, and which tensors differ."""
    with session.client() as client:
        report = follow(client.models.check_pair(base=base, donor=donor), f"Comparing {base} and {donor}")
    if session.json:
        output.print_json(report)
        return
    fields = output.plain(report)
    del fields["deltas"]
    output.print_fields(fields)
    rows = [(d.tensor, d.component, f"{d.relative_norm:.3g}", f"{d.max_abs_diff:.3g}") for d in report.deltas]
    output.print_table(["tensor", "component", ">relative change", ">largest"], rows[:limit])
