"""``palimpsest corpus``: create, fill, build, search and delete corpora that generation can quote."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from palimpsest.cli.corpus import continuation as corpus_continue
from palimpsest.cli.corpus import listing
from palimpsest.cli.corpus.listing import Name, show_corpus
from palimpsest.cli.input.reading import STANDARD_INPUT, read_bytes
from palimpsest.cli.models import labels_of
from palimpsest.cli.names import corpus_name
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.exits import Exit
from palimpsest.cli.output.progress import follow
from palimpsest.cli.sampling import Model, chosen_model
from palimpsest.cli.session import Session, command
from palimpsest.client.corpora import NewDocument, refusal

app = typer.Typer(
    help="Manage corpora: texts that generation can quote, with their sources.", no_args_is_help=True
)
DEFERRED_ABOVE = 64
"""With more files than this, the build that follows computes the vectors."""

Wait = Annotated[bool, typer.Option(help="Wait for the job; otherwise print it and return.")]


@command(app)
def create(
    session: Session,
    corpus_id: Annotated[str, typer.Argument(metavar="ID", help="The corpus will be corpora/ID.")],
    model: Model = "",
    encoder: Annotated[str, typer.Option(help="all-minilm-l6-v2 (the default) or hashed-words.")] = "",
    passage_tokens: Annotated[int, typer.Option(min=0, max=1024, help="Tokens in a passage. 0: 128.")] = 0,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Repeatable.")
    ] = None,
) -> None:
    """Create an empty corpus for a model."""
    with session.client() as client:
        made = client.datastore.create_corpus(
            corpus_id=corpus_id,
            model=chosen_model(client, model),
            encoder=encoder,
            passage_tokens=passage_tokens,
            labels=labels_of(label),
        )
    if not encoder:
        output.note(
            f"The encoder {made.encoder} reads every passage with a model, which takes minutes for some MB on a "
            "processor; with --encoder hashed-words a corpus is built at once, and searched by words, not by meaning."
        )
    show_corpus(session, made)


@command(app)
def add(
    session: Session,
    name: Name,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Text files, folders of them, - for standard input."),
    ],
    build: Annotated[
        bool,
        typer.Option(help="Build the index afterwards; otherwise nothing is built before `corpus build`."),
    ] = True,
    document: Annotated[
        str, typer.Option(metavar="ID", help="Id of the document from standard input.")
    ] = "stdin",
) -> None:
    """Add text files, each as a document under its path. Unchanged files are not stored again."""
    files = sorted({file for path in paths if path != STANDARD_INPUT for file in _files_of(Path(path))})
    read = [NewDocument(document, read_bytes(STANDARD_INPUT))] if STANDARD_INPUT in paths else []
    refused = 0
    with session.client() as client:
        documents = chain(read, (_document(file) for file in files))
        defer = build and len(files) > DEFERRED_ABOVE
        with client.datastore.add(
            corpus_name(name), documents, defer_vectors=defer, defer_build=True
        ) as answers:
            for answer in answers:
                error = refusal(answer)
                refused += error is not None
                if session.json:
                    output.print_json(answer)
                elif error is not None:
                    output.note(f"{answer.document}: {error}")
                else:
                    what = "added" if answer.changed else "unchanged"
                    typer.echo(
                        f"{answer.document}: {what}, version {answer.version}, {answer.token_count} tokens"
                    )
        if build:
            follow(client.datastore.build_index(corpus=corpus_name(name)), f"Building {corpus_name(name)}")
    if refused:
        raise typer.Exit(Exit.REFUSED)


def _files_of(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in path.rglob("*"):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
            yield file


def _document(file: Path) -> NewDocument:
    return NewDocument(str(file), file.read_bytes(), title=file.stem, uri=file.resolve().as_uri())


@command(app)
def build(session: Session, name: Name, wait: Wait = True) -> None:
    """Seal added documents into segments, as a job."""
    with session.client() as client:
        job = client.datastore.build_index(corpus=corpus_name(name))
        if not wait:
            session.show(client.jobs.get(job.name))
            return
        show_corpus(session, follow(job, f"Building {corpus_name(name)}"))


@command(app)
def warm(session: Session, name: Name, wait: Wait = True) -> None:
    """Compute the token keys of every passage, as a job, so the first quotes need not wait for them."""
    with session.client() as client:
        job = client.datastore.warm_keys(corpus=corpus_name(name))
        session.show(follow(job, f"Warming {corpus_name(name)}") if wait else client.jobs.get(job.name))


@command(app)
def calibrate(session: Session, name: Name, wait: Wait = True) -> None:
    """Choose how quoting weighs the corpus against its model, as a job. Later sessions use the result."""
    with session.client() as client:
        job = client.datastore.calibrate(corpus=corpus_name(name))
        session.show(follow(job, f"Calibrating {corpus_name(name)}") if wait else client.jobs.get(job.name))


@command(app)
def compact(session: Session, name: Name, wait: Wait = True) -> None:
    """Merge small segments and drop deleted documents from them, as a job."""
    with session.client() as client:
        job = client.datastore.compact(corpus=corpus_name(name))
        session.show(follow(job, f"Compacting {corpus_name(name)}") if wait else client.jobs.get(job.name))


@command(app)
def purge(session: Session, name: Name, wait: Wait = True) -> None:
    """Remove every byte of deleted documents from disk, as a job, and print the receipt."""
    with session.client() as client:
        job = client.datastore.purge(corpus=corpus_name(name))
        session.show(follow(job, f"Purging {corpus_name(name)}") if wait else client.jobs.get(job.name))


@command(app)
def search(
    session: Session,
    name: Name,
    query: Annotated[str, typer.Argument(help="The text to search for.")],
    limit: Annotated[
        int, typer.Option("-k", "--limit", min=1, max=1000, help="Maximum number of passages.")
    ] = 5,
    mode: Annotated[str, typer.Option(help="hybrid, dense or sparse.")] = "hybrid",
) -> None:
    """Find the passages that match a query best."""
    if mode not in ("hybrid", "dense", "sparse"):
        raise typer.BadParameter(f"{mode!r} is not a mode; use hybrid, dense or sparse", param_hint="--mode")
    with session.client() as client:
        found = client.datastore.search(corpora=[corpus_name(name)], query=query, limit=limit, mode=mode)
    if session.json:
        output.print_json(found)
        return
    for number, hit in enumerate(found.hits, 1):
        source = hit.source
        others = f", and {len(hit.owners)} more" if hit.owners else ""
        typer.echo(
            f"[{number}] {source.document} v{source.version}, bytes {source.byte_start}-{source.byte_end}{others} "
            f"({hit.score:.3f})"
        )
        typer.echo("    " + " ".join(hit.text.decode(errors="replace").split()))
    if not found.hits:
        typer.echo("Nothing found.")


command(app, "continue")(corpus_continue.continue_)


@command(app)
def delete(
    session: Session,
    name: Name,
    documents: Annotated[
        list[str] | None,
        typer.Argument(metavar="DOCUMENT...", help="Without documents, --yes deletes the whole corpus."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm deleting the whole corpus.")] = False,
) -> None:
    """Delete documents, or a whole corpus. Deleted documents can no longer be retrieved or quoted."""
    if not documents and not yes:
        raise typer.BadParameter(
            "name documents, or pass --yes to delete the whole corpus", param_hint="DOCUMENT"
        )
    with session.client() as client:
        if not documents:
            client.datastore.delete_corpus(name=corpus_name(name))
            session.deleted(corpus_name(name))
            return
        receipt = client.datastore.delete_documents(corpus=corpus_name(name), documents=documents)
    if session.json:
        output.print_json(receipt)
    else:
        for each in receipt.deleted:
            typer.echo(f"{each.document} v{each.version}: deleted")
        for missing in receipt.missing:
            output.note(f"{missing}: not found")
    if receipt.missing and not receipt.deleted:
        raise typer.Exit(Exit.NOT_FOUND)


command(app, "list")(listing.list_)
command(app)(listing.show)
