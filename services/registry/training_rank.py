"""One rank of a fine-tuning beside the job's own: ``python -m services.registry.training_rank FOLDER RANK``.

The job starts it, and keeps its standard input open: when that closes, the job is gone or done, and this process ends.
"""

import os
import sys
import threading
from pathlib import Path

from palimpsest.lm import load
from palimpsest.lm.faults import is_fatal
from palimpsest.progress import NullProgress
from palimpsest.redaction import redacted
from palimpsest.training import train
from palimpsest.training.cross_entropy import CrossEntropy
from palimpsest.training.ranks import RankLost, joined
from services.registry.fine_tuning_ranks import Shared


def main(folder: Path, rank: int) -> int:
    """Train along with the other ranks."""
    threading.Thread(target=_end_with_the_job, daemon=True).start()
    try:
        _run(folder, rank)
    except RankLost:
        return 0  # the job knows
    except BaseException as error:
        (folder / f"failed-{rank}").write_text(type(error).__name__)
        with redacted(keep=is_fatal):  # what is printed goes to the worker's log
            raise
    return 0


def _run(folder: Path, rank: int) -> None:
    shared, examples = Shared.read(folder)
    recipe, device = shared.recipe, shared.device_of(rank)
    model = load(shared.model, str(device), trainable=True, threads=recipe.threads)
    (folder / f"ready-{rank}").touch()
    with joined(folder / "meeting", rank, recipe.ranks, device) as ranks:
        objective = CrossEntropy(examples, recipe, shared.pad, device)
        train(model.module, objective, recipe, progress=NullProgress(), ranks=ranks)


def _end_with_the_job() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
