"""``palimpsest jobs``: what is queued, running and done."""

import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from google.longrunning import operations_pb2

from palimpsest.cli.input.prefixes import completed
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.progress import follow
from palimpsest.cli.session import Session, command
from palimpsest.client import Client
from palimpsest.client.aio.jobs import metadata_of

app = typer.Typer(help="Queued work: list, watch, cancel, retry, delete.", no_args_is_help=True)

JobName = Annotated[
    str, typer.Argument(metavar="JOB", help="Job id, its first characters, or operations/<id>.")
]


_ID_LENGTH = 32


def full_name(client: Client, job: str) -> str:
    """Return ``operations/<id>`` for a job given either way, or by the first characters of its id."""
    id = job.removeprefix("operations/")
    return f"operations/{completed(id, _ID_LENGTH, lambda: _ids(client))}"


def _ids(client: Client) -> Iterator[str]:
    return (operation.name.removeprefix("operations/") for operation in _all(client, "", sys.maxsize))


def _all(client: Client, filter: str, limit: int) -> Iterator[operations_pb2.Operation]:
    token = ""
    while limit > 0:
        page = client.jobs.list(filter=filter, page_size=min(limit, 1000), page_token=token)
        yield from page.operations
        limit -= len(page.operations)
        token = page.next_page_token
        if not token:
            return


@command(app, "list")
def list_(
    session: Session,
    state: Annotated[str, typer.Option(help="queued, running, succeeded, failed or cancelled.")] = "",
    kind: Annotated[str, typer.Option(help="Such as decoding.generate_batch.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Most jobs to list.")] = 100,
) -> None:
    """List jobs, newest first."""
    wanted = [f"state={state.upper()}"] if state else []
    wanted += [f"kind={kind}"] if kind else []
    with session.client() as client:
        operations = list(_all(client, " AND ".join(wanted), limit))
    if session.json:
        output.print_json([output.plain(operation) for operation in operations])
        return
    rows = []
    for operation in operations:
        seen = metadata_of(operation)
        done = f"{seen.fraction:.0%}" if seen.fraction else ""
        name = operation.name.removeprefix("operations/")
        created = output.when(seen.create_time)
        rows.append((name, seen.kind, output.state_name(operation), done, seen.attempt, created, seen.stage))
    output.print_table(["job", "kind", "state", ">done", ">attempt", "created", "stage"], rows)


@command(app)
def show(session: Session, job: JobName) -> None:
    """Show everything about one job: progress, times, result or error."""
    with session.client() as client:
        operation = client.jobs.get(full_name(client, job))
    if session.json:
        output.print_json(operation)
        return
    data = output.readable(operation)
    fields = {"name": operation.name, **data.get("metadata", {})}
    fields |= {key: data[key] for key in ("response", "error") if key in data}
    output.print_fields(fields)


@command(app)
def watch(session: Session, job: JobName) -> None:
    """Follow a job to its end; exit with the job's error if it fails."""
    with session.client() as client:
        handle = client.job(full_name(client, job))
        if session.json:
            for seen in handle:
                output.print_json(seen)
            handle.result()
        else:
            output.print_fields(output.readable(follow(handle, handle.name)))


@command(app)
def cancel(session: Session, job: JobName) -> None:
    """Ask a job to stop; it stops the next time it checks for cancellation."""
    with session.client() as client:
        name = full_name(client, job)
        client.jobs.cancel(name)
        session.show(metadata_of(client.jobs.get(name)))


@command(app)
def retry(session: Session, job: JobName) -> None:
    """Queue a failed or cancelled job again."""
    with session.client() as client:
        session.show(client.jobs.retry(full_name(client, job)).progress())


@command(app)
def delete(session: Session, job: JobName) -> None:
    """Delete a finished job and release its artefacts."""
    with session.client() as client:
        name = full_name(client, job)
        client.jobs.delete(name)
    session.deleted(name)
