"""``palimpsest batch``: a file of prompts in, a file of texts out, as one job."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from palimpsest import json_input
from palimpsest.api.decoding.v1 import decoding_pb2
from palimpsest.cli.input.reading import opened
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.exits import Exit
from palimpsest.cli.output.progress import follow, transfer
from palimpsest.cli.sampling import (
    Constraints,
    Count,
    Logprobs,
    MaxTokens,
    MinP,
    Model,
    Seed,
    Stop,
    Temperature,
    TopK,
    TopP,
    chosen_model,
    sampling,
)
from palimpsest.cli.session import Session, command
from palimpsest.client import Client


def batch(
    session: Session,
    file: Annotated[
        str,
        typer.Argument(
            help='JSONL: one {"prompt": ...} or {"messages": [...]} a line; - for standard input.'
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where the result goes.")] = None,
    model: Model = "",
    n: Count = 1,
    max_tokens: MaxTokens = 0,
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = None,
    min_p: MinP = 0.0,
    seed: Seed = None,
    stop: Stop = None,
    logprobs: Logprobs = None,
    constraints: Constraints = Constraints(),
    skip_cache: Annotated[bool, typer.Option("--skip-cache", help="Run even if the result exists.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the job, or print its name and return.")] = True,
) -> None:
    """Generate for every line of a JSONL file: upload, run as a job, download the result.

    Exits with 1 if every line failed; why lines failed is said on standard error.

    Without --wait or when interrupted, `palimpsest jobs watch` comes back to the job.
    """
    with session.client() as client:
        model = chosen_model(client, model)
        with transfer(f"Uploading {file}") as progress:
            artifact = client.artifacts.upload(
                opened(file), media_type="application/jsonl", progress=progress
            )
        job = client.decoding.generate_batch(
            model=model,
            input=artifact.digest,
            sampling=sampling(temperature, top_k, top_p, min_p, seed, constraints),
            n=n,
            max_tokens=max_tokens,
            stop=stop,
            logprobs=logprobs,
            skip_cache=skip_cache,
            **constraints.fields(),
        )
        if not wait:
            session.show(client.jobs.get(job.name))
            return
        output.note(job.name)
        result = follow(job, f"Generating for {Path(file).name}")
        if result.failed:
            _tell_failures(client, result)
        if out is not None:
            with transfer(f"Downloading {out}") as progress:
                client.artifacts.download(result.output.digest, out, progress=progress)
    session.show(result)
    if result.failed and not result.succeeded:
        raise typer.Exit(Exit.FAILED)


def _tell_failures(client: Client, result: decoding_pb2.GenerateBatchResponse) -> None:
    """Say on standard error why lines failed: for each reason how many, and the first one's words."""
    firsts: dict[str, tuple[int, str]] = {}
    counts: Counter[str] = Counter()
    with tempfile.TemporaryFile() as file:
        client.artifacts.download(result.output.digest, file)
        file.seek(0)
        for line in file:
            made = json_input.decode(line, max_bytes=len(line))
            if error := made.get("error"):
                counts[error["reason"]] += 1
                firsts.setdefault(error["reason"], (made["index"] + 1, error["message"]))
    output.note(f"{result.failed} of {result.failed + result.succeeded} lines failed:")
    for reason, count in counts.most_common():
        number, message = firsts[reason]
        output.note(f"  {count} x {reason}, first in line {number}: {message}")


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app)(batch)
