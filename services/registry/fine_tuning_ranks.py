"""A fine-tuning on several devices: the processes beside the job's own, started, watched and ended.

The job is rank 0. Each other rank is ``python -m services.registry.training_rank``: it loads the base from its folder,
reads recipe and examples from files of the job's, and trains along. It ends with the job, however the job ends.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import torch
from safetensors.torch import load_file, save_file

from palimpsest.errors import FailedPrecondition, Reason, Unavailable
from palimpsest.progress import Progress
from palimpsest.training import Example, Recipe
from palimpsest.training.ranks import RankLost, Ranks, joined

log = structlog.get_logger(__name__)

_ROOT = Path(__file__).parents[2]
_GRACE = 10.0
"""Seconds a rank may take to leave by itself."""
_READY, _FAILED, _LOG = "ready", "failed", "log"


@dataclass(frozen=True)
class Shared:
    """What every rank needs to know.

    Attributes
    ----------
    model
        Folder of the base.
    device
        Kind of device: "cpu" or "cuda".
    recipe, pad
        As rank 0 has them.
    """

    model: str
    device: str
    recipe: Recipe
    pad: int

    def device_of(self, rank: int) -> torch.device:
        """Where a rank's model is: each GPU has one."""
        return torch.device(self.device, rank) if self.device == "cuda" else torch.device(self.device)

    def write(self, folder: Path, examples: Sequence[Example]) -> None:
        """Leave it, and the examples, for the other ranks."""
        save_file(
            {
                "ids": torch.tensor([token for each in examples for token in each.ids]),
                "counted": torch.tensor([counts for each in examples for counts in each.counted]),
                "lengths": torch.tensor([len(each.ids) for each in examples]),
            },
            folder / "examples.safetensors",
        )
        facts = {"model": self.model, "device": self.device, "recipe": self.recipe.facts(), "pad": self.pad}
        (folder / "work.json").write_text(json.dumps(facts))

    @classmethod
    def read(cls, folder: Path) -> tuple["Shared", list[Example]]:
        """Read what ``write`` left."""
        facts = json.loads((folder / "work.json").read_text())
        tensors = load_file(folder / "examples.safetensors")
        lengths = tensors["lengths"].tolist()
        pieces = zip(tensors["ids"].split(lengths), tensors["counted"].split(lengths), strict=True)
        examples = [Example(tuple(ids.tolist()), tuple(counted.tolist())) for ids, counted in pieces]
        return cls(facts["model"], facts["device"], Recipe.of(facts["recipe"]), facts["pad"]), examples


def devices_for(wanted: int, batch: int, device: torch.device) -> int:
    """How many devices train.

    Parameters
    ----------
    wanted
        As asked; 0 for every GPU that this process sees, as far as the batch goes, and for one process on a CPU.
    batch
        Examples of a step.
    device
        Where the model is to be: a GPU with a number is that one alone.

    Raises
    ------
    FailedPrecondition
        DEVICES_MISSING.
    """
    if device.type == "cuda":
        there, what = torch.cuda.device_count() if device.index is None else 1, "GPUs"
    else:
        there, what = os.cpu_count() or 1, "processors"
    if wanted > there:
        message = (
            f"The training is for {wanted} devices, and this worker has {there} {what}. Ask for fewer, or retry the "
            "job where there are enough."
        )
        raise FailedPrecondition(
            Reason.DEVICES_MISSING, message, metadata={"devices": wanted, "available": there}
        )
    if wanted:
        return wanted
    return min(there, batch) if device.type == "cuda" else 1


@contextlib.contextmanager
def other_ranks(
    shared: Shared, examples: Sequence[Example], folder: Path, progress: Progress
) -> Iterator[Ranks | None]:
    """Start the other ranks of a training, and end them; None where there is one device.

    Parameters
    ----------
    shared, examples
        What they train.
    folder
        Made here.
    progress
        Asked whether to go on, until all have loaded the model.

    Raises
    ------
    Unavailable
        DEVICE_LOST: a rank failed or was killed.
    """
    size = shared.recipe.ranks
    if size == 1:
        yield None
        return
    folder.mkdir()
    shared.write(folder, examples)
    (folder / "meeting").mkdir()
    processes = [_start(folder, rank) for rank in range(1, size)]
    try:
        _wait(processes, folder, progress)
        with joined(folder / "meeting", 0, size, shared.device_of(0)) as ranks:
            yield ranks
    except RankLost as error:
        raise _lost(processes, folder) from error
    finally:
        _end(processes)


def _start(folder: Path, rank: int) -> subprocess.Popen[bytes]:
    with (folder / f"{_LOG}-{rank}").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "services.registry.training_rank", str(folder), str(rank)],
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,  # it ends when this end closes, which a killed job does too
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # signals are for the job, which tells the ranks
        )


def _wait(processes: Sequence[subprocess.Popen[bytes]], folder: Path, progress: Progress) -> None:
    """Until every rank is about to join: one that fails before would be waited for in vain."""
    while not all((folder / f"{_READY}-{rank}").exists() for rank in range(1, len(processes) + 1)):
        progress.step(0, 0, "starting the other devices")
        if any(process.poll() is not None for process in processes):
            raise RankLost("A rank ended before it began.")
        time.sleep(0.1)


def _lost(processes: Sequence[subprocess.Popen[bytes]], folder: Path) -> Unavailable:
    """The error that says which rank is gone; what it wrote goes to the log."""
    _end(processes)
    told = []
    for rank, process in enumerate(processes, 1):
        failed = folder / f"{_FAILED}-{rank}"
        if failed.exists():
            told.append(f"device {rank} failed with {failed.read_text()}")
        elif process.returncode:
            told.append(f"device {rank} ended with status {process.returncode}")
        log.warning(
            "a rank of a training ended", rank=rank, text=(folder / f"{_LOG}-{rank}").read_text()[-4000:]
        )
    message = (
        f"The training lost a device: {'; '.join(told) or 'its connection closed'}. Retry the job: it goes on from its "
        "last checkpoint. If memory ran out, lower micro_batch."
    )
    return Unavailable(Reason.DEVICE_LOST, message)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.stdin is not None:
            process.stdin.close()
    for process in processes:
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
