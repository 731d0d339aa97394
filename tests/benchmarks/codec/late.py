"""Loads over bad links, played in virtual time: none may be later than the text alone by more than a tenth and a chunk.

Two hundred seeded traces: outliers, hundredfold drops, decay, dead links, slow decoders, and links that are slow all
the time. What decides is real: see ``tests.played_loads``. ``codec.loading`` has two such links over sockets.
"""

import statistics
from collections import defaultdict

from tests.benchmarks.figures import Figures
from tests.played_loads import Played, drawn

TRACES = range(200)


def late(figures: Figures) -> None:
    """Play every trace."""
    outcomes: dict[str, list[Played]] = defaultdict(list)
    for seed in TRACES:
        kind, outcome = drawn(seed)
        outcomes[kind].append(outcome)
    for kind, each in outcomes.items():
        ratios = [outcome.seconds / outcome.text for outcome in each]
        text = f"median {statistics.median(ratios):.2f}, worst {max(ratios):.2f}"
        figures.figure(f"{kind}, {len(each)} loads (played): time / text", text)
    worst = sum(outcome.late > 0 for each in outcomes.values() for outcome in each)
    figures.gate(f"{len(TRACES)} bad links (played): later than 1.1 times text and a chunk", "<= 0", worst)
