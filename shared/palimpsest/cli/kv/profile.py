"""``palimpsest kv calibrate`` and ``kv profile``: calibration profiles of a model's caches."""

from pathlib import Path
from typing import Annotated

import typer

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.cli.input.reading import opened
from palimpsest.cli.models import ModelId
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.progress import follow, transfer
from palimpsest.cli.session import Session, command


def calibrate(
    session: Session,
    model: ModelId,
    texts: Annotated[
        Path | None, typer.Option(help='Sample texts: plain, or JSONL with a "text" in each line.')
    ] = None,
    documents: Annotated[int, typer.Option(min=0, help="Texts to use; 0 means 32.")] = 0,
    document_tokens: Annotated[int, typer.Option(min=0, help="Tokens per text; 0 means 1024.")] = 0,
    group: Annotated[int, typer.Option(min=0, help="Layers coded together; 0 means 5.")] = 0,
    skip_cache: Annotated[
        bool, typer.Option("--skip-cache", help="Calibrate again even if a result exists.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the job, or print it and return.")] = True,
) -> None:
    """Calibrate the coding of a model's caches, as a job of some minutes. New contexts use the result."""
    with session.client() as client:
        digest = ""
        if texts is not None:
            with transfer(f"Uploading {texts}") as progress:
                digest = client.artifacts.upload(
                    opened(str(texts)), media_type="text/plain", progress=progress
                ).digest
        job = client.codec.calibrate(
            model=model,
            texts=digest,
            documents=documents,
            document_tokens=document_tokens,
            group=group,
            skip_cache=skip_cache,
        )
        if not wait:
            session.show(client.jobs.get(job.name))
            return
        output.note(job.name)
        made = follow(job, f"Calibrating {model}")
    _show(session, made)


def profile(session: Session, model: ModelId) -> None:
    """Show the calibration profile used for a model's new contexts."""
    with session.client() as client:
        found = client.codec.get_profile(model=model)
    _show(session, found)


def _show(session: Session, profile: codec_pb2.Profile) -> None:
    if session.json:
        output.print_json(profile)
        return
    output.print_fields(
        {
            "model": profile.model,
            "profile": profile.artifact,
            "size": output.size(profile.size_bytes),
            "layers together": profile.group,
            "calibrated on": f"{profile.calibration_tokens} tokens",
            "made": output.when(profile.create_time),
        }
    )
    rows = [
        (
            level.level,
            f"{level.bits_per_value:.2f}",
            f"{level.loss:.4g}",
            f"{level.top1:.1%}",
            f"{level.decode_tokens_per_second:,.0f}",
        )
        for level in profile.levels
    ]
    output.print_table(
        ["level", ">bits/value", ">loss, nats/token", ">same first choice", ">decoded tokens/s"], rows
    )


def add(app: typer.Typer) -> None:
    """Register the commands."""
    command(app)(calibrate)
    command(app)(profile)
