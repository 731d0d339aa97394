"""``palimpsest kv load`` and ``kv estimate``: a context fetched, adaptively, and what that would come to."""

from pathlib import Path
from typing import Annotated

import typer

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.cli.kv.options import (
    Bandwidth,
    Deadline,
    Level,
    Link,
    LossBudget,
    Mode,
    Name,
    Recompute,
    load_settings,
)
from palimpsest.cli.names import context_name
from palimpsest.cli.output import load_view
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.quantities import show_rate, show_seconds
from palimpsest.cli.session import Session, command
from palimpsest.client import Client
from palimpsest.client.loading import LoadedContext


def load(
    session: Session,
    name: Name,
    deadline: Deadline = "",
    mode: Mode = "",
    level: Level = None,
    loss_budget: LossBudget = 0.0,
    bandwidth: Bandwidth = "",
    chunks: Annotated[int, typer.Option(min=0, help="Load only this many leading chunks; 0 loads all.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads that decode one chunk.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write keys, values and token ids to a safetensors file."),
    ] = None,
) -> None:
    """Load a context over the current connection, each chunk at the level that suits it, and decode it."""
    settings = load_settings(
        deadline=deadline, mode=mode, level=level, loss_budget=loss_budget, bandwidth=bandwidth
    )
    with session.client() as client:
        loaded, watch = watched(client, context_name(name), settings, chunks=chunks, threads=threads)
    if out is not None:
        from palimpsest.kv.files import save_cache

        facts = {"context": loaded.context.name, "model_fingerprint": loaded.context.model_fingerprint}
        save_cache(out, loaded.kv, loaded.token_ids, facts)
    if session.json:
        output.print_json(_document(loaded, watch))
        return
    load_view.show([level for level, _ in loaded.chunks])
    whole = loaded.kv.keys.nbytes + loaded.kv.values.nbytes
    output.print_fields(
        {
            "tokens": len(loaded.token_ids),
            "received": f"{output.size(loaded.received_bytes)}, {loaded.received_bytes / whole:.1%} of the cache",
            "time": f"{show_seconds(loaded.seconds)}, all decoded",
            "rate": show_rate(watch.rate),
            "loss": f"at most {loaded.loss:.4g} nats a token",
        }
    )
    if loaded.over_budget:
        output.print_fields({"warning": "no stored level keeps to the loss budget: the finest was loaded"})
    if watch.abandoned:
        output.print_fields({"abandoned": f"{watch.abandoned} times a chunk was abandoned and sent again"})


def watched(
    client: Client, name: str, settings: codec_pb2.LoadSettings, *, chunks: int = 0, threads: int = 1
) -> tuple[LoadedContext, load_view.Watch]:
    """Load a context and show its progress."""
    with load_view.watching() as watch:
        loaded = client.codec.load(name, settings=settings, watch=watch, chunks=chunks, threads=threads)
    return loaded, watch


def _document(loaded: LoadedContext, watch: load_view.Watch) -> dict[str, object]:
    return {
        "name": loaded.context.name,
        "tokens": len(loaded.token_ids),
        "chunks": [
            {"chunk": at, "level": level, "bytes": size} for at, (level, size) in enumerate(loaded.chunks)
        ],
        "received_bytes": loaded.received_bytes,
        "cache_bytes": loaded.kv.keys.nbytes + loaded.kv.values.nbytes,
        "seconds": round(loaded.seconds, 4),
        "loss": loaded.loss,
        "over_budget": loaded.over_budget,
        "abandoned": watch.abandoned,
    }


def estimate(
    session: Session,
    name: Name,
    bandwidth: Link,
    deadline: Deadline = "",
    mode: Mode = "",
    level: Level = None,
    loss_budget: LossBudget = 0.0,
    recompute: Recompute = 0.0,
) -> None:
    """Estimate a load at a steady bandwidth, and compare with always sending one level, or recomputing."""
    settings = load_settings(
        deadline=deadline,
        mode=mode,
        level=level,
        loss_budget=loss_budget,
        bandwidth=bandwidth,
        recompute=recompute,
    )
    with session.client() as client:
        found = client.codec.estimate(name=context_name(name), settings=settings)
    if session.json:
        output.print_json(found)
        return
    rows = [
        (
            way.name,
            show_seconds(way.finish_seconds),
            output.size(way.bytes),
            f"{way.loss:.4g}{' (over budget)' if way.over_budget else ''}",
            ("yes" if way.in_time else "no") if settings.deadline_seconds else "-",
        )
        for way in found.ways
    ]
    output.print_table(["way", ">done after", ">fetched", ">loss, nats/token", "in time"], rows)
    levels = [""] * (1 + max((decision.chunk for decision in found.decisions), default=-1))
    for decision in found.decisions:
        levels[decision.chunk] = decision.level
    load_view.show(levels)


def add(app: typer.Typer) -> None:
    """Register the commands."""
    command(app)(load)
    command(app)(estimate)
