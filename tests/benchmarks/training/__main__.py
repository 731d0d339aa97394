"""Training: a step against transformers' Trainer, what checkpoints cost, and the memory of the losses of a removal.

``python -m tests.benchmarks.training`` measures all of it on one thread. Arguments are parts: ``steps``,
``checkpoints``, ``memory``.
"""

import sys
import tempfile
from pathlib import Path

import torch

from tests.benchmarks.figures import Figures
from tests.benchmarks.training.checkpoints import checkpoints
from tests.benchmarks.training.memory import memory
from tests.benchmarks.training.steps import steps

PARTS = {"steps": steps, "checkpoints": checkpoints, "memory": memory}


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    figures = Figures("training")
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or PARTS:
            PARTS[name](figures, Path(folder))
    figures.write()


if __name__ == "__main__":
    main()
