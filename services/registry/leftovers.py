"""What trainings leave behind whose last attempt died: a folder beside the models, with weights and states."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from palimpsest.disk import delete_tree, finish_deletions, untouched_seconds
from palimpsest.errors import NotFound, Reason
from palimpsest.jobs import JobContext, JobStore

_PREFIX = ".training-"
UNTOUCHED_SECONDS = 24 * 3600.0
"""The folder of a job without a record is deleted once nobody has changed it for so long."""


@contextmanager
def scratch(models_dir: Path, job: JobContext) -> Iterator[Path]:
    """A folder of this attempt alone, beside the models; those of earlier attempts are deleted."""
    models_dir.mkdir(parents=True, exist_ok=True)
    for left in models_dir.glob(f"{_PREFIX}{job.job_id}-*"):
        delete_tree(left)
    folder = models_dir / f"{_PREFIX}{job.job_id}-{job.attempt}"
    try:
        folder.mkdir()
        yield folder
    finally:
        delete_tree(folder)


class TrainingSweep:
    """Deletes the folders of trainings that have ended. Blocks; any number may run at once.

    Parameters
    ----------
    models_dir
        Where the folders are.
    jobs
        The jobs.
    untouched
        Seconds; see ``UNTOUCHED_SECONDS``.
    """

    def __init__(self, models_dir: Path, jobs: JobStore, untouched: float = UNTOUCHED_SECONDS) -> None:
        self._models_dir, self._jobs, self._untouched = models_dir, jobs, untouched

    def run(self) -> None:
        """Look at every folder once.

        Raises
        ------
        Unavailable
            JOB_STORE_UNAVAILABLE.
        """
        for folder in self._models_dir.glob(f"{_PREFIX}*"):
            if self._is_over(folder):
                delete_tree(folder)
        finish_deletions(self._models_dir)

    def _is_over(self, folder: Path) -> bool:
        job_id = folder.name.removeprefix(_PREFIX).rpartition("-")[0]
        try:
            return self._jobs.get(job_id).terminal
        except NotFound as error:
            if error.reason != Reason.JOB_NOT_FOUND:
                raise
            return untouched_seconds(folder) > self._untouched
