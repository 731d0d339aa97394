"""``palimpsest kv bench``: loading times of a context over a range of bandwidths, as a table and as plots."""

from pathlib import Path
from typing import Annotated

import typer

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.cli.kv.load import watched
from palimpsest.cli.kv.options import Deadline, LossBudget, Name, Recompute, load_settings
from palimpsest.cli.names import context_name
from palimpsest.cli.output import printing as output
from palimpsest.cli.output.quantities import show_rate, show_seconds
from palimpsest.cli.session import Session, command
from palimpsest.report import Curve, LevelPoint, plots

BANDWIDTHS = tuple(m * 125_000.0 for m in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000))
"""Bytes a second, 1 Mbit/s to 10 Gbit/s."""


def bench(
    session: Session,
    name: Name,
    deadline: Deadline = "",
    loss_budget: LossBudget = 0.0,
    recompute: Recompute = 0.0,
    plot: Annotated[
        Path | None, typer.Option(help="Write plots: .png, .svg, or .html with the table.")
    ] = None,
) -> None:
    """Estimate loads of a context over a range of bandwidths, and measure one over the current connection.

    The table is the server's estimates, as `kv estimate` makes them; only the last line is measured.
    """
    if plot is not None:
        plots.check(plot)
    settings = load_settings(deadline=deadline, loss_budget=loss_budget, recompute=recompute)
    with session.client() as client:
        context = client.codec.context(context_name(name))
        estimates = []
        for bandwidth in BANDWIDTHS:
            settings.bandwidth = bandwidth
            estimates.append(client.codec.estimate(name=context.name, settings=settings))
        settings.bandwidth = 0
        loaded, watch = watched(client, context.name, settings)
    curves = _curves(estimates)
    points = _points(context)
    if plot is not None:
        plots.write(plot, context.name, points, curves)
    measured = {"seconds": round(loaded.seconds, 4), "bytes": loaded.received_bytes, "loss": loaded.loss}
    if session.json:
        output.print_json(
            {
                "name": context.name,
                "levels": [point._asdict() for point in points],
                "bandwidths": list(BANDWIDTHS),
                "delays": {curve.name: list(curve.seconds) for curve in curves},
                "measured": measured,
            }
        )
        return
    rows = [
        (show_rate(bandwidth), *(_cell(way) for way in estimate.ways))
        for bandwidth, estimate in zip(BANDWIDTHS, estimates, strict=True)
    ]
    output.print_table(["link", *(f">{curve.name}" for curve in curves)], rows)
    if any(way.over_budget for estimate in estimates for way in estimate.ways):
        output.note("* loses more than the loss budget allows, which adaptive keeps to.")
    typer.echo(
        f"Measured here and now: {output.size(loaded.received_bytes)} in {show_seconds(loaded.seconds)}, "
        f"{show_rate(watch.rate)}, loss {loaded.loss:.4g} nats a token."
    )
    if plot is not None:
        output.note(f"Wrote {plot}.")


def _cell(way: codec_pb2.EstimateResponse.Way) -> str:
    return f"{show_seconds(way.finish_seconds)}{'*' if way.over_budget else ''}"


def _curves(estimates: list[codec_pb2.EstimateResponse]) -> list[Curve]:
    return [
        Curve(way.name, BANDWIDTHS, tuple(estimate.ways[at].finish_seconds for estimate in estimates))
        for at, way in enumerate(estimates[0].ways)
    ]


def _points(context: codec_pb2.Context) -> list[LevelPoint]:
    return [
        LevelPoint(level.level, level.size_bytes, level.size_bytes / context.cache_bytes, level.loss)
        for level in context.levels
    ]


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app)(bench)
