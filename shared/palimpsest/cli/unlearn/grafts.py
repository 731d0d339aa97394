"""The part of ``palimpsest unlearn report`` that tells whether what was forgotten is gone or hidden."""

from pathlib import Path
from typing import Annotated

import typer

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb
from palimpsest.cli.output import printing as output
from palimpsest.report.grafting.table import MOST_BYTES, Table, read_table
from palimpsest.report.removal.grafts import finding_of, graft_commands, require_same_models, title_of

GraftFile = Annotated[
    Path | None,
    typer.Option(
        "--graft",
        metavar="FILE",
        help="Table of a sweep of the models before and after: is it gone, or hidden?",
    ),
]


def read(file: Path, found: pb.RemovalRequest) -> Table:
    """Read a sweep of the request's own models.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: it is not a table, or of other models.
    """
    with file.open("rb") as data:
        table = read_table(data.read(MOST_BYTES + 1))
    require_same_models(found, table)
    return table


def show(found: pb.RemovalRequest, table: Table | None) -> None:
    """Print what the grafts say; without them, how to ask."""
    if table is not None:
        rows = [(title_of(case), *finding_of(found, table, case)) for case in table.cases]
        output.print_table(["grafts", "what was forgotten is", "why"], rows)
    elif commands := graft_commands(found):
        output.note(f"Gone, or hidden? Grafts of the model before into the model after tell:\n{commands}")
