"""What checkpoints cost: the time their states take to be written, as a share of the run.

A job writes them by time (``PALIMPSEST_CHECKPOINT_SECONDS``), a removal every so many steps. Both defaults are taken as
they are. What is timed is all of ``save``, up to the sync to disk, as nothing else goes on meanwhile.
"""

import time
from pathlib import Path
from typing import Any

from palimpsest.progress import NullProgress
from palimpsest.settings import Settings
from palimpsest.training import Checkpoints, Recipe, train
from palimpsest.training.cross_entropy import CrossEntropy
from services.unlearning.removal.plan import CHECKPOINT_STEPS
from tests.benchmarks.figures import Figures
from tests.benchmarks.training.models import MODELS, SEED, ragged

SECONDS = 45.0
"""How long each run is, at least: several intervals."""
SHAPES = {"1 M": (16, 128), "49k vocabulary": (4, 192)}


class _Timed(Checkpoints):
    spent, states = 0.0, 0

    def save(self, *args: Any, **more: Any) -> Path:
        """Write a state, and add up the time."""
        began = time.perf_counter()
        folder = super().save(*args, **more)
        self.spent += time.perf_counter() - began
        self.states += 1
        return folder


def checkpoints(figures: Figures, folder: Path) -> None:
    """Gate both intervals, on both models."""
    intervals = {
        "by time": {"seconds": Settings().checkpoint_seconds},
        f"every {CHECKPOINT_STEPS} steps": {"every": CHECKPOINT_STEPS},
    }
    for name, make in MODELS.items():
        size, longest = SHAPES[name]
        for interval, options in intervals.items():
            if name != "1 M" and "every" in options:
                continue  # an interval is minutes long there, and by time is the harder case
            module = make(folder)
            recipe = Recipe(steps=1 << 20, learning_rate=1e-5, batch=size, seed=SEED, threads=1)
            examples = ragged(8 * size, longest, module.config.vocab_size)
            kept = _Timed(folder / f"{name} {interval}", **options)
            over = time.perf_counter() + SECONDS
            began = time.perf_counter()
            history = train(
                module,
                CrossEntropy(examples, recipe, 0),
                recipe,
                checkpoints=kept,
                progress=NullProgress(),
                probe=lambda _, over=over, kept=kept: time.perf_counter() > over and kept.states > 1,
            )
            share = kept.spent / (time.perf_counter() - began)
            figures.gate(f"{name}, states {interval}: share of the run", "<= 0.05", share)
            figures.figure(f"{name}, states {interval}: states", f"{kept.states} in {history.steps} steps")
