"""Grafting on the sample model: facts that it was fine-tuned on, and facts planted at one place.

``python -m tests.benchmarks.grafting_study [study] [planted]`` trains what is not there yet (some six minutes of CPU a
seed) and grafts. Models and readings are kept, so that it can be stopped and started. Environment:
PALIMPSEST_BENCH_SEEDS, "1,2,3,4,5"; PALIMPSEST_BENCH_MODELS, the folder of models.
"""

import os
import sys
from collections.abc import Sequence

import torch

from tests.benchmarks.figures import Figures
from tests.benchmarks.grafting_study.lab import Lab
from tests.benchmarks.grafting_study.planted import planted_facts
from tests.benchmarks.grafting_study.study import study

PARTS = ("study", "planted")


def main(names: Sequence[str]) -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    seeds = [int(each) for each in os.environ.get("PALIMPSEST_BENCH_SEEDS", "1,2,3,4,5").split(",")]
    lab = Lab()
    if unknown := set(names) - set(PARTS):
        sys.exit(f"There is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}.")
    if not names or "study" in names:
        figures = Figures("grafting_study")
        study(lab, figures, seeds)
        figures.write()
    if not names or "planted" in names:
        figures = Figures("grafting_planted")
        planted_facts(lab, figures, seeds[0])
        figures.write()


if __name__ == "__main__":
    main(sys.argv[1:])
