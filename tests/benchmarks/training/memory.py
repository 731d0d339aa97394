"""Peak memory of the losses of a removal, each in a process of its own.

``python -m tests.benchmarks.training.memory ALGORITHM`` is one such process: it prints the bytes that the run needed
beyond what the process held once the libraries were loaded. The kernel keeps the peak, so nothing is sampled. It is the
peak of this program alone: ``ru_maxrss`` begins with the peak of the process that started it.
"""

import subprocess
import sys
from pathlib import Path

import psutil
import torch

from palimpsest.progress import NullProgress
from palimpsest.training import Recipe
from services.unlearning.runs import Data, unlearn
from tests.benchmarks.figures import Figures
from tests.benchmarks.training.models import SEED, ragged, wide

ALGORITHMS = ("ga", "npo", "ga_gdr", "npo_gdr", "ga_klr", "npo_klr")
BATCH, LONGEST, STEPS, LAYERS = 4, 192, 2, 2


def memory(figures: Figures, _: object) -> None:
    """Gate NPO, which keeps a number for each sequence of the reference, against GA, which has none."""
    needed = {name: _apart(name) for name in ALGORITHMS}
    figures.gate("peak memory, NPO / GA", "<= 1.15", needed["npo"] / needed["ga"])
    figures.gate("peak memory, NPO+GDR / GA+GDR", "<= 1.15", needed["npo_gdr"] / needed["ga_gdr"])
    figures.figure("peak memory, GA+KLR / GA", needed["ga_klr"] / needed["ga"])
    figures.figure("peak memory, NPO+KLR / GA", needed["npo_klr"] / needed["ga"])
    for name, size in needed.items():
        figures.figure(f"{name}: peak above the libraries, MB", size / 1e6)


def _apart(name: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.training.memory", name],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def needed(name: str) -> int:
    """Bytes that a run of an algorithm needs at its peak, the model included."""
    before = psutil.Process().memory_info().rss
    module = wide(LAYERS)
    examples = ragged(3 * BATCH, LONGEST, module.config.vocab_size)
    recipe = Recipe(steps=STEPS, learning_rate=1e-5, batch=BATCH, seed=SEED, threads=1)
    unlearn(module, name, Data(examples[:BATCH], examples[BATCH:]), recipe, progress=NullProgress())
    return _peak() - before


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    [peak] = [line.split() for line in lines if line.startswith("VmHWM:")]
    return int(peak[1]) * 1024  # Linux counts in KiB


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(needed(sys.argv[1]))
