"""``palimpsest finetune``: examples in, a trained model out, as one job."""

from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.api.models.v1 import models_pb2
from palimpsest.cli.models import labels_of
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.progress import follow, transfer
from palimpsest.cli.sampling import Model, chosen_model
from palimpsest.cli.session import Session, command
from palimpsest.client import Client

_LINES = (".jsonl", ".ndjson")


TrainFile = Annotated[
    Path,
    typer.Option(
        help='.jsonl: one {"text": ...}, {"messages": [...]} or {"prompt": ..., "completion": ...} a line; '
        "anything else: one document of plain text."
    ),
]
NewModel = Annotated[str, typer.Option("--as", metavar="MODEL", help="Id of the new model.")]
Validation = Annotated[
    Path | None, typer.Option(help="Examples for the validation loss, in the same format.")
]
Steps = Annotated[int, typer.Option(min=0, show_default=False, help="Optimiser steps. Default: one epoch.")]
Epochs = Annotated[
    float, typer.Option(min=0, show_default=False, help="Passes over the examples, instead of --steps.")
]
Batch = Annotated[int, typer.Option(min=0, show_default=False, help="Examples a step. Default: 8.")]
MicroBatch = Annotated[
    int,
    typer.Option(
        min=0, show_default=False, help="Most examples of one forward pass, to save memory. Default: all."
    ),
]
Rate = Annotated[
    float,
    typer.Option(
        "--learning-rate", "--lr", min=0, show_default=False, help="Default: 1e-5, or 1e-4 with --lora."
    ),
]
Schedule = Annotated[str, typer.Option(help="constant, cosine or linear.")]
Warmup = Annotated[int, typer.Option(min=0, help="Steps of linear warm-up.")]
Decay = Annotated[float, typer.Option(min=0, help="AdamW's weight decay.")]
Clip = Annotated[
    float | None, typer.Option(min=0, help="Largest norm of the gradient; 0: no limit. Default: 1.")
]
Seed = Annotated[int, typer.Option(min=0, help="Order of the examples, first weights of an adapter.")]
Context = Annotated[
    int, typer.Option(min=0, show_default=False, help="Most tokens of an example. Default: 1024.")
]
Lora = Annotated[
    int,
    typer.Option(
        metavar="RANK",
        min=0,
        show_default=False,
        help="Train a LoRA adapter of this rank. Default: all weights.",
    ),
]
Alpha = Annotated[
    float, typer.Option(min=0, show_default=False, help="The adapter's alpha. Default: twice the rank.")
]
Target = Annotated[
    list[str] | None,
    typer.Option("--target", metavar="LAYER", help="Layers to adapt. Repeatable. Default: all linear ones."),
]
Adapter = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Do not merge the adapter: write it to this .tar, register nothing."),
]
CheckpointEvery = Annotated[
    int, typer.Option(min=0, show_default=False, help="Steps between checkpoints. Default: by time.")
]
ValidateEvery = Annotated[
    int, typer.Option(min=0, show_default=False, help="Steps between validations. Default: after the last.")
]
Label = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Repeatable.")]
Wait = Annotated[bool, typer.Option(help="Wait for the job, or print its name and return.")]


def finetune(
    session: Session,
    train: TrainFile,
    name: NewModel = "",
    model: Model = "",
    validation: Validation = None,
    steps: Steps = 0,
    epochs: Epochs = 0.0,
    batch: Batch = 0,
    micro_batch: MicroBatch = 0,
    learning_rate: Rate = 0.0,
    schedule: Schedule = "constant",
    warmup_steps: Warmup = 0,
    weight_decay: Decay = 0.0,
    clip: Clip = None,
    seed: Seed = 0,
    context: Context = 0,
    lora: Lora = 0,
    alpha: Alpha = 0.0,
    target: Target = None,
    adapter: Adapter = None,
    checkpoint_every: CheckpointEvery = 0,
    validate_every: ValidateEvery = 0,
    label: Label = None,
    wait: Wait = True,
) -> None:
    """Train a model on examples: upload them, run as a job, register the result.

    Without --wait or when interrupted, `palimpsest jobs watch` comes back to the job.
    """
    _check(name, train, validation, steps, epochs, lora, adapter)
    with session.client() as client:
        base = chosen_model(client, model)
        fields: dict[str, Any] = {"steps": steps} if steps else {"epochs": epochs} if epochs else {}
        if lora:
            fields["lora"] = models_pb2.LoraConfig(
                rank=lora, alpha=alpha, targets=target or [], unmerged=adapter is not None
            )
        job = client.models.fine_tune(
            base=base,
            model_id=name or None,
            train=_upload(client, train),
            validation=_upload(client, validation) if validation else None,
            format=None if _is_lines(train) else "plain_text",
            batch=batch,
            micro_batch=micro_batch,
            learning_rate=learning_rate,
            schedule=schedule,
            warmup_steps=warmup_steps,
            weight_decay=weight_decay,
            clip=clip,
            seed=seed,
            context=context,
            checkpoint_every=checkpoint_every,
            validate_every=validate_every,
            labels=labels_of(label),
            **fields,
        )
        if not wait:
            session.show(client.jobs.get(job.name))
            return
        output.note(job.name)
        made = follow(job, f"Training {base}")
        if adapter is not None:
            with transfer(f"Downloading {adapter}") as progress:
                client.artifacts.download(made.adapter.digest, adapter, progress=progress)
    _show(session, made)


def _check(
    name: str,
    train: Path,
    validation: Path | None,
    steps: int,
    epochs: float,
    lora: int,
    adapter: Path | None,
) -> None:
    if steps and epochs:
        raise typer.BadParameter("give --steps or --epochs, not both", param_hint="--steps")
    if adapter is not None and not lora:
        raise typer.BadParameter("there is no adapter without --lora", param_hint="--adapter")
    if not name and adapter is None:
        raise typer.BadParameter("give the id of the new model, such as --as my-model", param_hint="--as")
    if name and adapter is not None:
        raise typer.BadParameter("an --adapter in a file is no model; leave --as out", param_hint="--as")
    if validation is not None and _is_lines(train) != _is_lines(validation):
        raise typer.BadParameter("both files need the same format", param_hint="--validation")
    for file in filter(None, (train, validation)):
        if file.suffix.lower() == ".json":
            raise typer.BadParameter(
                f"{file} would be read as plain text. Name a file of one example a line .jsonl",
                param_hint="--train",
            )
        file.open("rb").close()  # before a stack is started for a file that is not there


def _is_lines(file: Path) -> bool:
    return file.suffix.lower() in _LINES


def _upload(client: Client, file: Path) -> str:
    kind = "application/jsonl" if _is_lines(file) else "text/plain"
    with transfer(f"Uploading {file}") as progress:
        return client.artifacts.upload(file, media_type=kind, progress=progress).digest


def _show(session: Session, made: models_pb2.FineTuned) -> None:
    if session.json:
        output.print_json(made)
        return
    fields: dict[str, object] = {
        "model": made.model.model_id or "not registered: the adapter is kept apart",
        "steps": f"{made.steps} of {made.effective_batch} examples",
        "examples": f"{made.examples}, {made.counted_tokens} tokens count",
        "loss": f"{made.first_loss:.4g} to {made.last_loss:.4g} nats a token",
    }
    if made.HasField("validation_loss"):
        fields["validation loss"] = f"{made.validation_loss:.4g}"
    fields["curve"] = made.curve.digest
    output.print_fields(fields)


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app)(finetune)
