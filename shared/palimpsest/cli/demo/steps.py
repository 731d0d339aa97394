"""Running the tour: its own stack, the steps in order, a table of results, and nothing left behind."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import typer
from rich.table import Table

from palimpsest.cli.output import printing as output
from palimpsest.cli.output.exits import Exit
from palimpsest.client import Client
from palimpsest.embedded.link import Link
from palimpsest.embedded.probes import processes_of
from palimpsest.embedded.stack import Stack
from palimpsest.settings import Settings

MODEL = "smollm2-135m"
LINK_BYTES_PER_SECOND = 5e6
"""40 Mbit/s: what a cache crosses on the tour."""


class Row(NamedTuple):
    """One row of the final table: what was done, and its figures."""

    what: str
    figures: str


@dataclass
class Context:
    """What the steps share.

    Attributes
    ----------
    folder
        Scratch space, gone at the end.
    link
        A slow link to the same server; what its engine fetches of stored contexts crosses it too.
    digests
        Artefacts that one step leaves for another, by a name the two agree on.
    kept
        Where pages go that are worth a look afterwards; None: to ``folder``.
    """

    client: Client
    folder: Path
    link: Link
    digests: dict[str, str] = field(default_factory=dict)
    kept: Path | None = None


@dataclass(frozen=True)
class Step:
    """One stop of the tour."""

    name: str
    run: Callable[[Context], Sequence[Row]]


def _far(settings: Settings, link: Link) -> Settings:
    """Put the link between the stack's engine and its stored contexts, as if they were on another machine."""
    return settings.model_copy(update={"peers": f"codec={link.target}"})


def run(settings: Settings, folder: Path, steps: Sequence[Step]) -> Table:
    """Run the steps on a stack of their own; return the table of what happened."""
    shown = Table(title="What happened", title_justify="left", header_style="bold")
    for column in ("step", "what", "figures", "seconds"):
        shown.add_column(column, overflow="fold", justify="right" if column == "seconds" else "left")
    console = output.console()

    def record(name: str, began: float, rows: Sequence[Row]) -> None:
        seconds = f"{time.perf_counter() - began:.1f}"
        for index, row in enumerate(rows):
            shown.add_row(*((name, *row, seconds) if index == 0 else ("", *row, "")))

    began = time.perf_counter()
    console.print("[bold]start[/]")
    with Link(LINK_BYTES_PER_SECOND) as link, Stack(_far(settings, link)) as stack:
        link.lead_to(stack.target)
        children = ", ".join(child.name for child in stack.status())
        record("start", began, [Row(children, f"serving {stack.target}")])
        with Client(stack.target) as client:
            context = Context(client, folder, link, kept=settings.state_dir)
            for step in steps:
                console.print(f"[bold]{step.name}[/]")
                began = time.perf_counter()
                record(step.name, began, step.run(context))
        console.print("[bold]stop[/]")
        began = time.perf_counter()
        stack.stop()
    left = processes_of(settings.state_dir)
    record("stop", began, [Row("everything stopped", f"{len(left)} processes left")])
    if left:
        console.print(shown)
        raise typer.Exit(Exit.FAILED)
    return shown
