"""Progress bars for long work: on standard error, and only where that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from palimpsest.cli.output.printing import console, note
from palimpsest.client import Job

T = TypeVar("T")


def _bar(*columns: BarColumn | TaskProgressColumn | DownloadColumn | TextColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        *columns,
        TimeElapsedColumn(),
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def follow(job: Job[T], what: str, *, stages: bool = False) -> T:
    """Show a job's progress until its end; return its result or raise its error.

    Parameters
    ----------
    job
        The job.
    what
        What it does, before the bar.
    stages
        Where there is no terminal for a bar, print a line whenever the stage changes: for jobs that take long, and not
        beside JSON.
    """
    lines, told = stages and not sys.stderr.isatty(), ""
    with _bar(BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[stage]}")) as bar:
        task = bar.add_task(what, total=1.0, stage="waiting")
        for seen in job:
            counted = f" {seen.done}/{seen.total}" if seen.total else ""
            bar.update(task, completed=seen.fraction, stage=f"{seen.waiting_reason or seen.stage}{counted}")
            # What follows the comma are figures, which change with every step.
            stage = seen.waiting_reason or seen.stage.partition(",")[0]
            if lines and stage not in ("", told):
                note(f"{what}: {stage}")
                told = stage
    return job.result()


@contextmanager
def transfer(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give the ``progress=`` callable of an upload or download."""
    with _bar(BarColumn(), DownloadColumn(binary_units=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
