"""``palimpsest kv``: encode, store, list, show, find and delete contexts."""

from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.cli.input.reading import read_text
from palimpsest.cli.kv import bench as kv_bench
from palimpsest.cli.kv import load as kv_load
from palimpsest.cli.kv import profile as kv_profile
from palimpsest.cli.kv.options import Name
from palimpsest.cli.models import labels_of
from palimpsest.cli.names import context_name
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.paging import all_pages
from palimpsest.cli.output.progress import follow, transfer
from palimpsest.cli.sampling import Model, chosen_model
from palimpsest.cli.session import Session, command
from palimpsest.client import Client

app = typer.Typer(help="Contexts: stored KV caches of long texts.", no_args_is_help=True)
LONGEST_TEXT = 400_000
"""Characters sent in the request itself; longer texts go through the artefact store."""

Id = Annotated[str, typer.Option("--id", help="Name it contexts/ID. Default: derived from its content.")]
Codec = Annotated[str, typer.Option(help="transform, classic or generic. Default: the best one available.")]
Levels = Annotated[
    list[str] | None, typer.Option("--level", help="Store this level; repeatable. Default: all lossy ones.")
]
ChunkTokens = Annotated[int, typer.Option(min=0, help="Tokens per chunk; 0 means 512.")]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Repeatable.")]


def _coding(codec: str, levels: list[str] | None, chunk_tokens: int) -> codec_pb2.Coding:
    return codec_pb2.Coding(codec=codec, levels=levels or [], chunk_tokens=chunk_tokens)


@command(app)
def encode(
    session: Session,
    file: Annotated[str, typer.Argument(help="Text file; - for standard input.")],
    model: Model = "",
    context_id: Id = "",
    codec: Codec = "",
    level: Levels = None,
    chunk_tokens: ChunkTokens = 0,
    label: Labels = None,
    wait: Annotated[bool, typer.Option(help="Wait for the job, or print it and return.")] = True,
) -> None:
    """Compute a text's KV cache and store it, as a job."""
    text = read_text(file)
    with session.client() as client:
        source: dict[str, Any] = {"text": text}
        if len(text) > LONGEST_TEXT:
            with transfer(f"Uploading {file}") as progress:
                uploaded = client.artifacts.upload(text.encode(), media_type="text/plain", progress=progress)
            source = {"text_artifact": uploaded.digest}
        job = client.codec.create_context(
            model=chosen_model(client, model),
            context_id=context_id,
            coding=_coding(codec, level, chunk_tokens),
            labels=labels_of(label),
            **source,
        )
        if not wait:
            session.show(client.jobs.get(job.name))
            return
        stored = follow(job, f"Encoding {file}")
    _show(session, stored)


@command(app)
def put(
    session: Session,
    file: Annotated[Path, typer.Argument(help="A file that `kv load --out` wrote: keys, values, token_ids.")],
    model: Model = "",
    context_id: Id = "",
    codec: Codec = "",
    level: Levels = None,
    chunk_tokens: ChunkTokens = 0,
    label: Labels = None,
) -> None:
    """Store a cache from a safetensors file."""
    from palimpsest.kv.files import load_cache

    kv, ids, _ = load_cache(file)
    with session.client() as client:
        stored = client.codec.put(
            model=chosen_model(client, model),
            tokens=ids.tolist(),
            kv=kv,
            context_id=context_id,
            coding=_coding(codec, level, chunk_tokens),
            labels=labels_of(label),
        )
    _show(session, stored)


def all_contexts(client: Client, model: str = "") -> list[codec_pb2.Context]:
    """Return every stored context, oldest first."""
    return all_pages(client.codec.list_contexts, "contexts", model=model)


@command(app, "list")
def list_(
    session: Session, model: Annotated[str, typer.Option("--model", "-m", help="Only of this model.")] = ""
) -> None:
    """List the stored contexts, oldest first."""
    with session.client() as client:
        contexts = all_contexts(client, model)
    if session.json:
        output.print_json([output.plain(context) for context in contexts])
        return
    rows = [
        (
            c.name,
            c.model,
            c.token_count,
            c.codec,
            output.size(c.cache_bytes),
            output.size(c.stored_bytes),
            len(c.levels),
            output.when(c.create_time),
        )
        for c in contexts
    ]
    output.print_table(
        ["context", "model", ">tokens", "codec", ">cache", ">stored", ">levels", "created"], rows
    )


@command(app)
def show(session: Session, name: Name) -> None:
    """Show a context: its levels, their sizes and losses."""
    with session.client() as client:
        context = client.codec.context(context_name(name))
    _show(session, context)


@command(app, "look-up")
def look_up(
    session: Session,
    file: Annotated[str, typer.Argument(help="Text file; - for standard input.")],
    model: Model = "",
) -> None:
    """Find the stored context that shares the longest prefix with a text."""
    text = read_text(file)
    with session.client() as client:
        found = client.codec.look_up_context(model=chosen_model(client, model), text=text)
    if session.json:
        output.print_json(found)
    elif found.name:
        typer.echo(
            f"{found.name}: {found.matched_tokens} of the text's {found.token_count} tokens, {found.chunks} chunks."
        )
    else:
        typer.echo(f"Nothing is stored for these {found.token_count} tokens.")


@command(app)
def delete(session: Session, names: Annotated[list[str], typer.Argument(metavar="NAME...")]) -> None:
    """Delete contexts; the next garbage collection frees their bytes."""
    with session.client() as client:
        for name in names:
            client.codec.delete_context(name=context_name(name))
    session.deleted([context_name(name) for name in names])


def bits_per_value(context: codec_pb2.Context, size: int) -> float:
    """Bits per cache element at a level."""
    shape = context.shape
    values = context.token_count * shape.layers * shape.kv_heads * (shape.key_dim + shape.value_dim)
    return 8 * size / values if values else 0.0


def _show(session: Session, context: codec_pb2.Context) -> None:
    if session.json:
        output.print_json(context)
        return
    fields: dict[str, object] = {
        "name": context.name,
        "model": context.model,
        "tokens": f"{context.token_count} in chunks of {context.chunk_tokens}",
        "codec": context.codec + (f", profile {context.profile[:19]}…" if context.profile else ""),
        "cache": f"{output.size(context.cache_bytes)} of {context.shape.dtype}",
        "stored": f"{output.size(context.stored_bytes)}, all levels together",
    }
    if context.labels:
        fields["labels"] = dict(context.labels)
    output.print_fields(fields)
    rows = [
        (
            level.level,
            output.size(level.size_bytes),
            f"{bits_per_value(context, level.size_bytes):.2f}",
            f"{level.size_bytes / context.cache_bytes:.1%}" if context.cache_bytes else "-",
            f"{level.loss:.4g}",
        )
        for level in context.levels
    ]
    output.print_table(["level", ">size", ">bits/value", ">of the cache", ">loss, nats/token"], rows)


for _module in (kv_load, kv_profile, kv_bench):
    _module.add(app)
