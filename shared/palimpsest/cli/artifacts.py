"""``palimpsest artifacts``: upload, download, list and delete artefacts."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from palimpsest.api.artifacts.v1 import artifacts_pb2
from palimpsest.cli.input.prefixes import SHORTEST, completed
from palimpsest.cli.input.reading import opened
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.progress import follow, transfer
from palimpsest.cli.session import Session, command
from palimpsest.client import Client

app = typer.Typer(help="Manage artefacts: immutable bytes named by their digest.", no_args_is_help=True)

Digest = Annotated[str, typer.Argument(help="sha256:<64 hex digits>, or the first of them.")]
_LENGTH = len("sha256:") + 64


def whole(client: Client, digest: str) -> str:
    """Return the digest of an artefact given by its first digits."""
    given = f"sha256:{digest.removeprefix('sha256:')}"
    if len(given) < len("sha256:") + SHORTEST:
        return digest
    return completed(given, _LENGTH, lambda: (a.digest for a in _all(client, sys.maxsize)))


def _all(client: Client, limit: int) -> Iterator[artifacts_pb2.Artifact]:
    token = ""
    while limit > 0:
        page = client.artifacts.list_artifacts(page_size=min(limit, 1000), page_token=token)
        yield from page.artifacts
        limit -= len(page.artifacts)
        token = page.next_page_token
        if not token:
            return


@command(app, "list")
def list_(
    session: Session,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of artefacts to list.")] = 100,
) -> None:
    """List artefacts, newest first."""
    with session.client() as client:
        artifacts = list(_all(client, limit))
    if session.json:
        output.print_json([output.plain(artifact) for artifact in artifacts])
        return
    rows = [
        (a.digest, output.size(a.size_bytes), a.media_type, output.when(a.create_time)) for a in artifacts
    ]
    output.print_table(["digest", ">size", "media type", "created"], rows)


@command(app)
def show(session: Session, digest: Digest) -> None:
    """Show an artefact's size, media type, and what refers to it."""
    with session.client() as client:
        session.show(client.artifacts.get_artifact(digest=whole(client, digest)))


@command(app)
def put(
    session: Session,
    file: Annotated[str, typer.Argument(help="File to upload; - reads standard input.")],
    media_type: Annotated[str, typer.Option(help="For example application/jsonl.")] = "",
) -> None:
    """Upload a file. If the store has it already, nothing is sent."""
    with session.client() as client, transfer(f"Uploading {file}") as progress:
        artifact = client.artifacts.upload(opened(file), media_type=media_type, progress=progress)
    if session.json:
        output.print_json(artifact)
    else:
        typer.echo(artifact.digest)


@command(app)
def get(
    session: Session,
    digest: Digest,
    out: Annotated[str, typer.Option("--out", "-o", help="File to write; - for standard output.")] = "-",
) -> None:
    """Download an artefact and verify its digest."""
    with session.client() as client, transfer("Downloading") as progress:
        digest = whole(client, digest)
        if out == "-":
            client.artifacts.download(digest, sys.stdout.buffer, progress=progress)
            sys.stdout.flush()
        else:
            artifact = client.artifacts.download(digest, Path(out), progress=progress)
            if session.json:
                output.print_json(artifact)


@command(app)
def delete(session: Session, digest: Digest) -> None:
    """Delete an artefact that nothing refers to."""
    with session.client() as client:
        digest = whole(client, digest)
        client.artifacts.delete_artifact(digest=digest)
    session.deleted(digest)


@command(app)
def gc(
    session: Session,
    grace: Annotated[int, typer.Option(min=0, help="Minimum age in seconds. 0: the server's setting.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be deleted; delete nothing.")
    ] = False,
) -> None:
    """Delete artefacts that nothing refers to."""
    with session.client() as client:
        job = client.artifacts.collect_garbage(grace_seconds=grace, dry_run=dry_run)
        session.show(follow(job, "Collecting garbage"))
