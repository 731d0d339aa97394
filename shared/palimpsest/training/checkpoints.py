"""States of a training run on disk, from which it goes on exactly.

Each is a folder: the trained weights and AdamW's moments as safetensors, and ``manifest.json`` with the SHA-256 of both
files, the curves, and what the run is. It is written under another name, synced and renamed, so there is a whole state
or none; the one before it goes only then. Nothing random is kept: seeds follow from the run's seed and the step.
"""

import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from palimpsest.disk import file_sha256, room_for, sync_tree
from palimpsest.errors import DataLoss, FailedPrecondition, Reason
from palimpsest.training.history import History
from palimpsest.training.recipe import Recipe

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
MOMENTS = "moments.safetensors"

_FORMAT = 1
_SHARE = 20
"""A run is at least so many times as long as all writing of states in it, the one to come included."""


@dataclass(frozen=True)
class Saved:
    """A state that was read.

    Attributes
    ----------
    weights, moments
        Tensors of the two files, as they are named there. They may map the files: copy what is kept.
    history, looked, state
        The curves, whether validation and probe of the last step are in them, and what objective and probe remembered.
    """

    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    history: History
    looked: bool
    state: Mapping[str, Any]

    def put_into(self, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Copy weights and moments to where a run has them."""
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(self.weights[name])
        for key, value in self.moments.items():
            kind, name = key.split(":", 1)
            weight = weights[name]
            device = "cpu" if kind == "step" else weight.device
            optimizer.state[weight][kind] = value.to(device, copy=True)


class Checkpoints:
    """The newest state of one run in a folder of its own.

    Parameters
    ----------
    folder
        Where; created if missing.
    every
        Steps between two states; 0 for none but at a shutdown.
    seconds
        Without ``every``: least seconds between two states; 0 for none. States that take long to write are further
        apart, so that after each but the first no more than a twentieth of the time went into writing. When they are
        written does not change the run.
    identity
        What the run is beside its recipe, as JSON-able data: the fingerprint of the model it begins from, the digest of
        the data, the name of the objective.
    on_saved
        Called with each state's folder and the number of steps done, such as to publish it.
    """

    def __init__(
        self,
        folder: Path,
        every: int = 0,
        *,
        seconds: float = 0.0,
        identity: Mapping[str, Any] | None = None,
        on_saved: Callable[[Path, int], None] | None = None,
    ) -> None:
        self.folder, self.every, self.seconds = folder, every, seconds
        self._began = self._saved_at = time.monotonic()
        self._written, self._spent = 0, 0.0
        self.identity = dict(identity or {})
        self.on_saved = on_saved

    def is_due(self, step: int) -> bool:
        """Whether a state should be written after this many steps."""
        if self.every:
            return step % self.every == 0
        if self.seconds <= 0:
            return False
        now = time.monotonic()
        with_next = self._spent * (self._written + 1) / max(1, self._written)
        return now - self._saved_at >= self.seconds and now - self._began >= _SHARE * with_next

    def newest(self) -> Path | None:
        """Folder of the newest state; None if there is none."""
        return max(self.folder.glob("state-*"), default=None)

    def save(
        self,
        weights: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        history: History,
        recipe: Recipe,
        *,
        looked: bool = True,
        state: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write a state, then delete the one before it.

        Raises
        ------
        ResourceExhausted
            DISK_FULL: nothing is left of the new state, and the one before it is intact.
        """
        began, before = time.monotonic(), self.newest()
        number = int(before.name.rpartition("-")[2]) + 1 if before else 0
        partial = self.folder / f".partial-{uuid.uuid4().hex}"
        target = self.folder / f"state-{number:09d}"
        try:
            with room_for(f"a checkpoint in {self.folder}"):
                partial.mkdir(parents=True)
                save_file({name: _plain(weight) for name, weight in weights.items()}, partial / WEIGHTS)
                save_file(_moments(weights, optimizer), partial / MOMENTS)
                manifest = {
                    "format": _FORMAT,
                    "run": self._run(recipe),
                    "files": {name: file_sha256(partial / name) for name in (WEIGHTS, MOMENTS)},
                    "history": history.facts(),
                    "looked": looked,
                    "state": dict(state or {}),
                }
                (partial / MANIFEST).write_text(json.dumps(manifest))
                sync_tree(partial)
                partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        for old in self.folder.glob("state-*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
        if self.on_saved is not None:
            self.on_saved(target, history.steps)
        self._saved_at = time.monotonic()
        self._written += 1
        self._spent += self._saved_at - began
        return target

    def load(self, recipe: Recipe) -> Saved | None:
        """Read the newest state; None if there is none.

        Raises
        ------
        DataLoss
            CHECKPOINT_DAMAGED: a file is missing, or is not what was written.
        FailedPrecondition
            CHECKPOINT_MISMATCH: it is of a run with another recipe or identity; metadata says what differs.
        """
        folder = self.newest()
        if folder is None:
            return None
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            if manifest["format"] != _FORMAT:
                raise _mismatch(folder, "format")
            for name, digest in manifest["files"].items():
                if file_sha256(folder / name) != digest:
                    raise _damaged(folder, f"{name} is not what was written")
            self._check(folder, manifest["run"], recipe)
            return Saved(
                load_file(folder / WEIGHTS),
                load_file(folder / MOMENTS),
                History.of(manifest["history"]),
                manifest["looked"],
                manifest["state"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(folder, str(error)) from error

    def _run(self, recipe: Recipe) -> dict[str, Any]:
        # through JSON, so that it compares equal to what is read
        return json.loads(json.dumps({"recipe": recipe.facts(), "identity": self.identity}))

    def _check(self, folder: Path, run: Mapping[str, Any], recipe: Recipe) -> None:
        own = self._run(recipe)
        for part, facts in own.items():
            other = run[part]
            for key in sorted(facts.keys() | other.keys()):
                if facts.get(key) != other.get(key):
                    raise _mismatch(folder, f"{part}.{key}")


def fetch_state(folder: Path, manifest: bytes, read: Callable[[str], Iterable[bytes]]) -> None:
    """Put a state that was published elsewhere into the empty folder of a run.

    Parameters
    ----------
    folder
        Made here.
    manifest
        The bytes of the state's ``manifest.json``.
    read
        Returns the bytes of the file that has a SHA-256, given in hex.
    """
    state = folder / "state-000000000"
    state.mkdir(parents=True)
    for name, digest in json.loads(manifest)["files"].items():
        with (state / name).open("wb") as file:
            file.writelines(read(digest))
    (state / MANIFEST).write_bytes(manifest)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _moments(weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's tensors, each named ``<kind>:<weight's name>``; none before the first step."""
    return {
        f"{kind}:{name}": _plain(value)
        for name, weight in weights.items()
        for kind, value in optimizer.state.get(weight, {}).items()
    }


def _damaged(folder: Path, why: str) -> DataLoss:
    message = f"The checkpoint {folder} is damaged: {why}. Delete it to begin the run again."
    return DataLoss(Reason.CHECKPOINT_DAMAGED, message)


def _mismatch(folder: Path, what: str) -> FailedPrecondition:
    message = (
        f"The checkpoint {folder} is of another run: {what} differs. Give each run a folder of its own, or delete the "
        "checkpoint to begin again."
    )
    return FailedPrecondition(Reason.CHECKPOINT_MISMATCH, message, metadata={"differs": what})
