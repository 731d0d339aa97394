"""Training states of a job, in the artefact store."""

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from palimpsest.errors import DataLoss, FailedPrecondition, NotFound, ResourceExhausted
from palimpsest.jobs import JobContext
from palimpsest.lm.hardware import physical_cores
from palimpsest.training.checkpoints import MANIFEST, MOMENTS, WEIGHTS, fetch_state

log = structlog.get_logger(__name__)

SAFETENSORS = "application/vnd.safetensors"
_FILES = ((WEIGHTS, SAFETENSORS), (MOMENTS, SAFETENSORS), (MANIFEST, "application/json"))


class TrainingStates:
    """The newest training state of a job, which a later attempt goes on from.

    Nothing refers to its artefacts but the job's checkpoint: a state may be as large as three copies of the model, and
    is nobody's result. Should a collection take it, a later attempt begins again, and ends with the same model.

    Attributes
    ----------
    threads
        CPU threads of every attempt. Sums depend on their number in the last bits, so the first attempt's counts.
    devices
        Devices of the first attempt, for the same reason; 0 before it has left a state. Whoever knows better sets it.
    """

    def __init__(self, job: JobContext) -> None:
        self._artifacts, self._progress, self._job = job.resources.artifacts, job.progress, job.job_id
        self._state: dict[str, Any] = job.progress.resume() or {}
        self.threads = int(
            self._state.get("threads", 0) or job.resources.settings.threads or physical_cores()
        )
        self.devices = int(self._state.get("devices", 1 if self._state else 0))

    def fetch(self, folder: Path) -> None:
        """Put the state of an earlier attempt into a folder, if there is one."""
        if not self._state:
            return
        try:
            manifest = self._artifacts.read_bytes(self._state["artifact"])
            fetch_state(folder, manifest, lambda digest: self._artifacts.chunks(f"sha256:{digest}"))
        except (NotFound, DataLoss) as error:
            log.warning("the training state is gone: starting again", job=self._job, why=error.message)
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, folder: Path, steps: int) -> None:
        """Store a state, point the job's checkpoint at it, and delete the one before.

        Raises
        ------
        ResourceExhausted
            STORE_FULL: nothing is left of the new state, and the one before it is intact.
        """
        before, stored = self._state, list[str]()
        try:
            for name, media_type in _FILES:
                stored.append(self._artifacts.put_file(folder / name, media_type).digest)
        except ResourceExhausted:  # half of a state is of no use, and takes the room that is wanted
            self._delete(set(stored) - set(_digests(before)))
            raise
        *files, manifest = stored
        self._state = {"artifact": manifest, "files": files, "step": steps, "threads": self.threads}
        if self.devices > 1:
            self._state["devices"] = self.devices
        self._progress.checkpoint(self._state)
        self._delete(set(_digests(before)) - set(_digests(self._state)))

    def forget(self) -> None:
        """Delete the state: the work is done."""
        self._delete(_digests(self._state))

    def _delete(self, digests: Iterable[str]) -> None:
        for digest in digests:
            with suppress(NotFound, FailedPrecondition):
                self._artifacts.delete_unheld(digest)


def _digests(state: dict[str, Any]) -> list[str]:
    return [state["artifact"], *state["files"]] if state else []
