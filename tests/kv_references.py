"""What the KV library is measured against: the paper's policies, and the code length no entropy coder can beat."""

from collections.abc import Callable, Sequence

import numpy as np

from palimpsest.kv.coding.tables import Tables
from palimpsest.kv.plan import Load
from palimpsest.kv.simulation import Policy


def ideal_bits(symbols: Sequence[np.ndarray], classes: Sequence[np.ndarray], tables: Tables) -> float:
    """Return the code length of symbols under their tables, in bits, as no coder can beat."""
    cost = tables.cost()
    return float(sum(cost[kind[None, :], part].sum() for part, kind in zip(symbols, classes, strict=True)))


def paper_rule(load: Load, levels: Sequence[int]) -> Policy:
    """Return the paper's rule (appendix C.1), for ``play_in_order``.

    Text for the rest if that is in time, for it is exact; else the finest level at which the rest is in time with the
    last chunk's throughput; else the coarsest. The first chunk, where nothing is known of the link, is of a middle one.
    """

    def choose(number: int, now: float, measured: float) -> int | None:
        rest, left = load.chunks[number:], load.deadline - load.tail - now
        if sum(chunk.recompute for chunk in rest) * load.sharers <= left:
            return None
        if not measured:
            return levels[len(levels) // 2]
        return next(
            (at for at in levels if sum(c.options[at].size for c in rest) / measured <= left), levels[-1]
        )

    return choose


def shared_rule(load: Load, levels: Sequence[int]) -> Callable[[int, float], int | None]:
    """Return the published code's rule: an equal share of time for each chunk, the finest that fits, else text."""
    share = load.deadline / len(load.chunks)

    def choose(number: int, bandwidth: float) -> int | None:
        options = load.chunks[number].options
        return next((at for at in levels if options[at].size / bandwidth <= share), None)

    return choose
