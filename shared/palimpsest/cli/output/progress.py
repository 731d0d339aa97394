"""Progress of long work on standard error: bars on a terminal, lines elsewhere."""

import sys
import time
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

from palimpsest.api.jobs.v1 import jobs_pb2
from palimpsest.cli.output.printing import console, note, tells_progress
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


LINE_SECONDS = 10.0
"""Where there is no terminal: shortest time between two lines about one stage."""


class Lines:
    """Progress where there is no terminal: a line for each stage, and for a long one now and then how far it is."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told, self._at = "", time.monotonic()

    def tell(self, seen: jobs_pb2.JobMetadata) -> None:
        """Print a line if there is something new to say."""
        # What follows the comma are figures, which change with every step.
        stage = seen.waiting_reason or seen.stage.partition(",")[0]
        now = time.monotonic()
        if stage and stage != self._told:
            note(f"{self._what}: {stage}")
        elif stage and seen.total and now - self._at >= LINE_SECONDS:
            note(f"{self._what}: {stage}, {seen.done} of {seen.total}")
        else:
            return
        self._told, self._at = stage, now


def follow(job: Job[T], what: str) -> T:
    """Show a job's progress until its end; return its result or raise its error.

    Interrupted, it says that the job goes on, and how to come back to it.

    Parameters
    ----------
    job
        The job.
    what
        What it does, before the bar.
    """
    try:
        _watch(job, what)
    except KeyboardInterrupt:
        id = job.name.removeprefix("operations/")
        note(
            f"{what}: the job goes on. `palimpsest jobs watch {id}` comes back to it, `palimpsest jobs cancel {id}` "
            "stops it."
        )
        raise
    return job.result()


def _watch(job: Job[T], what: str) -> None:
    lines = None if sys.stderr.isatty() or not tells_progress() else Lines(what)
    with _bar(BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[stage]}")) as bar:
        task = bar.add_task(what, total=1.0, stage="waiting")
        for seen in job:
            counted = f" {seen.done}/{seen.total}" if seen.total else ""
            bar.update(task, completed=seen.fraction, stage=f"{seen.waiting_reason or seen.stage}{counted}")
            if lines is not None:
                lines.tell(seen)


@contextmanager
def transfer(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give the ``progress=`` callable of an upload or download."""
    with _bar(BarColumn(), DownloadColumn(binary_units=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
