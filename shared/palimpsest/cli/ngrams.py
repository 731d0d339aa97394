"""``palimpsest ngrams``: n-gram stores: build, list, inspect, tune, delete."""

from pathlib import Path
from typing import Annotated

import typer

from palimpsest.api.datastore.v1 import datastore_pb2
from palimpsest.cli.corpus.commands import Wait
from palimpsest.cli.input.reading import opened
from palimpsest.cli.models import labels_of
from palimpsest.cli.names import corpus_name
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.paging import all_pages
from palimpsest.cli.output.progress import follow, transfer
from palimpsest.cli.sampling import Model, chosen_model
from palimpsest.cli.session import Session, command

app = typer.Typer(
    help="N-gram stores: counts of token sequences in a text, for drafts.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="ngramStores/ID, or the ID alone.")]
_LINES = (".jsonl", ".ndjson")


def full_name(name: str) -> str:
    """Return the full name of a store."""
    return name if name.startswith("ngramStores/") else f"ngramStores/{name}"


@command(app)
def build(
    session: Session,
    name: Name,
    corpus: Annotated[str, typer.Option(help="Count the documents of this corpus.")] = "",
    file: Annotated[
        Path | None,
        typer.Option(
            help='Count this text file (- for standard input); .jsonl: a document in each line, as {"text": ...}.'
        ),
    ] = None,
    model: Model = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Repeatable.")
    ] = None,
    wait: Wait = True,
) -> None:
    """Count the n-grams of a corpus or a file, as a job."""
    if bool(corpus) == (file is not None):
        raise typer.BadParameter("give either a --corpus or a --file, not both", param_hint="--corpus")
    with session.client() as client:
        digest, owner = None, model
        if file is not None:
            kind = "application/jsonl" if file.suffix.lower() in _LINES else "text/plain"
            owner = chosen_model(client, model)
            with transfer(f"Uploading {file}") as progress:
                digest = client.artifacts.upload(opened(str(file)), media_type=kind, progress=progress).digest
        job = client.datastore.build_ngram_store(
            store_id=name.removeprefix("ngramStores/"),
            corpus=corpus_name(corpus) if corpus else None,
            text_artifact=digest,
            model=owner,
            labels=labels_of(label),
        )
        if not wait:
            session.show(client.jobs.get(job.name))
            return
        made = follow(job, f"Building {full_name(name)}")
    _show(session, made)


@command(app, "list")
def list_(session: Session) -> None:
    """List the stores."""
    with session.client() as client:
        stores = all_pages(client.datastore.list_ngram_stores, "ngram_stores")
    if session.json:
        output.print_json([output.plain(store) for store in stores])
        return
    rows = [
        (
            s.name,
            s.model,
            s.corpus or s.text_artifact[:19],
            s.document_count,
            s.token_count,
            output.size(s.size_bytes),
            output.when(s.create_time),
        )
        for s in stores
    ]
    columns = ["store", "model", "text", ">documents", ">tokens", ">size", "built"]
    output.print_table(columns, rows)


@command(app)
def show(
    session: Session,
    name: Name,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="Show what follows this text. Default: show the store.")
    ] = "",
    limit: Annotated[
        int, typer.Option("-k", "--limit", min=1, max=1000, help="Number of tokens for each order.")
    ] = 5,
) -> None:
    """Show a store, or what follows a text in it."""
    with session.client() as client:
        if not text:
            _show(session, client.datastore.get_ngram_store(name=full_name(name)))
            return
        found = client.datastore.inspect_ngrams(name=full_name(name), text=text, limit=limit)
    if session.json:
        output.print_json(found)
        return
    rows = [
        (
            order.order,
            _text(order.context_text),
            order.total,
            ", ".join(f"{_text(c.text)} {c.count}" for c in order.continuations) or "-",
        )
        for order in found.orders
    ]
    output.print_table([">order", "after", ">seen", "what follows, most often first"], rows)
    typer.echo(f"{found.coverage:.0%} of the text's tokens follow two tokens that the store contains.")


@command(app)
def tune(
    session: Session,
    name: Name,
    file: Annotated[
        Path, typer.Option(help="Text representative of the prompts; not part of the store's text.")
    ],
    model: Model = "",
    k: Annotated[int, typer.Option("-k", min=1, max=10, help="Number of drafts.")] = 3,
    wait: Wait = True,
) -> None:
    """Find the store's best weight for a model's drafts, as a job; later drafts use it by default."""
    with session.client() as client:
        model = chosen_model(client, model)
        with transfer(f"Uploading {file}") as progress:
            texts = client.artifacts.upload(
                opened(str(file)), media_type="text/plain", progress=progress
            ).digest
        job = client.decoding.tune_drafts(model=model, ngrams=full_name(name), texts=texts, k=k)
        if not wait:
            session.show(client.jobs.get(job.name))
            return
        tuned = follow(job, f"Tuning {full_name(name)}")
    if session.json:
        output.print_json(tuned)
        return
    rows = [(f"{t.alpha:g}", f"{t.temperature:g}", f"{t.perplexity:.2f}") for t in tuned.trials]
    output.print_table([">alpha", ">temperature", ">perplexity of the drafts"], rows)
    typer.echo(f"alpha {tuned.alpha:g}, temperature {tuned.temperature:g}, by {tuned.prefixes} prefixes.")


@command(app)
def delete(session: Session, name: Name) -> None:
    """Delete a store."""
    with session.client() as client:
        client.datastore.delete_ngram_store(name=full_name(name))
    session.deleted(full_name(name))


def _text(data: bytes) -> str:
    """Tokens as quoted text, so that spaces are visible."""
    return repr(data.decode(errors="backslashreplace"))


def _show(session: Session, store: datastore_pb2.NgramStore) -> None:
    if session.json:
        output.print_json(store)
        return
    fields: dict[str, object] = {
        "name": store.name,
        "model": store.model,
        "text": f"{store.corpus} at epoch {store.corpus_epoch}" if store.corpus else store.text_artifact,
        "documents": store.document_count,
        "tokens": store.token_count,
        "orders": f"{store.orders[0]} to {store.orders[-1]}",
        "size": f"{output.size(store.size_bytes)}, {store.bytes_per_token:.1f} bytes a token",
        "artefact": store.artifact,
        "built": output.when(store.create_time),
    }
    if store.labels:
        fields["labels"] = dict(store.labels)
    output.print_fields(fields)
