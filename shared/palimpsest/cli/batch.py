"""``palimpsest batch``: a file of prompts in, a file of texts out, as one job."""

from pathlib import Path
from typing import Annotated

import typer

from palimpsest.cli.output import printing as output
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


def batch(
    session: Session,
    file: Annotated[Path, typer.Argument(help='JSONL: one {"prompt": ...} or {"messages": [...]} a line.')],
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

    Without --wait or when interrupted, `palimpsest jobs watch` comes back to the job.
    """
    with session.client() as client:
        model = chosen_model(client, model)
        with transfer(f"Uploading {file}") as progress:
            artifact = client.artifacts.upload(file, media_type="application/jsonl", progress=progress)
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
        result = follow(job, f"Generating for {file.name}")
        if out is not None:
            with transfer(f"Downloading {out}") as progress:
                client.artifacts.download(result.output.digest, out, progress=progress)
    session.show(result)


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app)(batch)
