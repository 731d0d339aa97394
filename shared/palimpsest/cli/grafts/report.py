"""``palimpsest graft report``: a sweep as a page, as pictures, as columns, as text."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.cli.jobs import full_name
from palimpsest.cli.output import printing as output
from palimpsest.cli.session import Session
from palimpsest.client import Client
from palimpsest.errors import InvalidArgument, Reason
from palimpsest.report.grafting.charts import draw_estimates, draw_segments
from palimpsest.report.grafting.columns import require_arro3, write_parquet
from palimpsest.report.grafting.contrasts import finding_of
from palimpsest.report.grafting.estimates import check_of, sentences
from palimpsest.report.grafting.page import Work, sweep_page
from palimpsest.report.grafting.pathways import PATHS, command_for_both, means_of, paths_of
from palimpsest.report.grafting.pictures import draw, write_picture
from palimpsest.report.grafting.table import MOST_BYTES, Case, Table, read_table
from palimpsest.report.grafting.words import (
    CONTRASTS,
    ESTIMATE,
    MEASURES,
    Measure,
    cut,
    layers_label,
    measure_named,
    row_label,
    set_label,
    shown,
    visible,
)
from palimpsest.report.plots import figure_class

_NAMES = ", ".join(each.name for each in (*MEASURES, *CONTRASTS, ESTIMATE))


class Picture(StrEnum):
    """What a picture shows."""

    MAPS = "maps"
    ESTIMATES = "estimates"
    SEGMENTS = "segments"


Source = Annotated[
    str,
    typer.Argument(metavar="SWEEP", help="The table's file, its digest (sha256:…), or the sweep's job."),
]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with all maps.")]
Svg = Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Draw one case, as --picture says.")]
Png = Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw one case, as --picture says.")]
Parquet = Annotated[
    Path | None, typer.Option("--parquet", metavar="FILE", help="Write a row for each cell as Parquet.")
]
CaseNumber = Annotated[int, typer.Option("--case", min=1, help="The case that pictures show, from 1.")]
MeasureName = Annotated[str, typer.Option("--reading", help=f"What pictures show: {_NAMES}.")]
PictureName = Annotated[
    Picture,
    typer.Option(
        "--picture",
        help="Pictures: maps, estimates beside grafts (--preview), or values of segments (--subsets).",
    ),
]
Entity = Annotated[
    str, typer.Option("--entity", metavar="TEXT", help="Take the enrichment at this text's tokens alone.")
]


def report(
    session: Session,
    sweep: Source,
    html: Html = None,
    svg: Svg = None,
    png: Png = None,
    parquet: Parquet = None,
    case: CaseNumber = 1,
    reading: MeasureName = "recovery",
    picture: PictureName = Picture.MAPS,
    entity: Entity = "",
) -> None:
    """Show what a sweep found: by paths as text, cell by cell as a page, pictures, Parquet or (--json) JSON.

    All have the same numbers. A file is read without a server.
    """
    measure = measure_named(reading)
    if measure is None:
        raise typer.BadParameter(f"{reading!r} is no reading; there are {_NAMES}.", param_hint="--reading")
    if svg or png:  # before anything is read, so that nothing is written by halves
        figure_class()
    if parquet:
        require_arro3()
    table, work = _read(session, sweep)
    if case > len(table.cases):
        raise typer.BadParameter(
            f"there are {len(table.cases)} cases, and no case {case}", param_hint="--case"
        )
    files = [(kind, file) for kind, file in (("svg", svg), ("png", png)) if file]
    drawn: Any = _draw(table, case - 1, measure, picture) if files else None
    if html:
        html.write_text(sweep_page(table, entity, work), encoding="utf-8")
    for kind, file in files:
        write_picture(file, kind, drawn)
    if parquet:
        write_parquet(parquet, table)
    for file in filter(None, (html, svg, png, parquet)):
        output.note(f"Wrote {file}.")
    if (svg or png) and len(table.cases) > 1:
        output.note(f"Drawn is case {case} of {len(table.cases)}; --case chooses.")
    if session.json:
        output.print_json(table.raw)
        return
    _show(table, entity, work)


def _draw(table: Table, case: int, measure: Measure, picture: Picture) -> Any:
    """The figure, made before anything is written."""
    if picture is Picture.ESTIMATES:
        return draw_estimates(table, case)
    return draw_segments(table, case) if picture is Picture.SEGMENTS else draw(table, case, measure)


def _read(session: Session, sweep: str) -> tuple[Table, Work | None]:
    """Read a table, and where the job is known what it took."""
    if Path(sweep).is_file():
        with Path(sweep).open("rb") as file:
            return read_table(file.read(MOST_BYTES + 1)), None
    with session.client() as client:
        if sweep.startswith("sha256:"):
            return _table(client, sweep), None
        done = client.job(full_name(sweep)).result()
        if not isinstance(done, pb.GraftSweep):
            message = (
                f"{full_name(sweep)} is no sweep; `palimpsest jobs list --kind grafting.sweep` lists them."
            )
            raise InvalidArgument.field(Reason.INVALID_REQUEST, "sweep", message)
        return _table(client, done.table.digest), Work(done.row_layers, done.naive_row_layers)


def _table(client: Client, digest: str) -> Table:
    return read_table(client.artifacts.read_bytes(digest))


def _show(table: Table, entity: str, work: Work | None) -> None:
    fields = {
        "base": f"{table.base.id} {table.base.fingerprint}",
        "donor": f"{table.donor.id} {table.donor.fingerprint}",
        "architecture": f"{table.architecture}, {table.layers} layers",
        "cells": f"{table.cells} in {len(table.cases)} cases",
    }
    if work:
        fields["rows through a layer"] = f"{work.row_layers} of {work.naive_row_layers}"
    output.print_fields(fields)
    if len(table.cases) > 1:
        columns = ["path", "grafted", ">cases", ">mean recovery", ">mean probability", ">rank 1"]
        rows = [
            (
                PATHS[m.path],
                set_label(m.components),
                m.cases,
                shown(m.recovery),
                shown(m.probability),
                f"{m.first:.0%}",
            )
            for m in means_of(table, entity)
        ]
        output.print_table(columns, rows, title="Best cells of each path, over all cases")
    for number, case in enumerate(table.cases):
        show_paths(table, case, entity)
        if found := finding_of(case):
            output.print_fields({"contrast": f"{found.word}: {found.sentence}"})
        if check := check_of(table, number):
            output.print_fields(dict(sentences(check, not case.partly_exact)))


def show_paths(table: Table, case: Case, entity: str = "") -> None:
    """Print both models' own passes and the best cell of each path of a case."""
    columns = [
        "path",
        "at",
        "layers",
        "grafted",
        ">recovery",
        ">log-probability",
        ">probability",
        ">rank",
        "likeliest",
    ]
    names = ("recovery", "logprob", "probability", "rank")
    found = paths_of(case, entity)
    passes = [("base alone", "", "", "", case.base), ("donor alone", "", "", "", case.donor)]
    passes += [
        (
            PATHS[each.path],
            cut(row_label(case, each.cell.row)),
            layers_label(each.cell.layers),
            set_label(each.components),
            each.cell.reading,
        )
        for each in found
    ]
    rows = [
        (*words, *(shown(reading.values.get(name)) for name in names), cut(visible(reading.top)))
        for *words, reading in passes
    ]
    output.print_table(
        columns, rows, title=f"{cut(visible(case.prompt), 80)} → {cut(visible(case.target), 40)}"
    )
    for each in found:
        if each.synergy is not None:
            output.note(
                f"Synergy ({set_label(each.components)}): {shown(each.synergy)} of recovery beyond the two alone."
            )
    if command := command_for_both(table, case, found):
        output.note(f"Both together, in all layers: {command}")
