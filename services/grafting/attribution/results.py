"""What a finished sweep says beyond its cells: over cases, of estimates, and of sets that are enough."""

from collections.abc import Sequence

import numpy as np

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from services.grafting.attribution.intervals import intervals
from services.grafting.attribution.options import Options
from services.grafting.attribution.previews import checked, picked
from services.grafting.attribution.works import estimates_of
from services.grafting.sweeps import Grid

_TOLD = 1000
"""Most of a kind in a result, which is one message."""
Key = tuple[str, int, tuple[str, ...]]


def key_of(cell: pb.GraftCell) -> Key:
    """What tells the cells of a case apart."""
    return cell.position, cell.layers.first, tuple(cell.components)


def cells_of(grid: Grid, case: int, pieces: Sequence[pb.SweptCells]) -> list[pb.GraftCell]:
    """Return the cells of a case in the order of the grid, each with its estimate and its reading if there are any."""
    found: dict[Key, pb.GraftCell] = {}
    for piece in pieces:
        for cell in piece.cells if piece.case == case else ():
            known = found.setdefault(key_of(cell), cell)
            if known is not cell:  # estimated before it was grafted
                known = found[key_of(cell)] = pb.GraftCell.FromString(known.SerializeToString())
                known.reading.CopyFrom(cell.reading)
    return [found[c.position, c.layers.start, c.components] for c in grid.cells_of(case)]


def preview_checks(grid: Grid, options: Options, pieces: Sequence[pb.SweptCells]) -> list[pb.PreviewCheck]:
    """Compare the estimates of each case with its grafts."""
    if options.preview is None:
        return []
    told = []
    for case in range(len(grid.prompts)):
        (piece,) = (each for each in pieces if each.case == case and each.preview)
        cells = cells_of(grid, case, pieces)
        base = piece.base.logprob
        exact = np.array([c.reading.logprob - base if c.HasField("reading") else np.nan for c in cells])
        estimates = estimates_of(piece)
        top, random = picked(estimates, options.preview, case)
        found = checked(estimates.effect, exact, top, random)
        told.append(
            pb.PreviewCheck(case=case, cells=len(cells), top=len(top), random=len(random), **found._asdict())
        )
    return told


def sufficient_sets(pieces: Sequence[pb.SweptCells]) -> list[pb.SufficientSet]:
    """Return what searches found, by case."""
    return [piece.sufficient for piece in pieces if piece.HasField("sufficient")]


def summaries(grid: Grid, pieces: Sequence[pb.SweptCells]) -> list[pb.CellSummary]:
    """Average recoveries, and values of segments, over the cases in which base and donor differ.

    Of named selections alone, for tokens of different prompts have nothing in common; and of cells that every such case
    has a reading of.
    """
    if not grid.axes.positions:
        return []
    by_case: list[dict[Key, float]] = []
    for case in range(len(grid.prompts)):
        own = [piece for piece in pieces if piece.case == case]
        found = {
            key_of(c): c.reading.recovery for p in own for c in p.cells if c.reading.HasField("recovery")
        }
        found |= {key: value for piece in own for key, value in _valued(piece)}
        if found:
            by_case.append(found)
    if not by_case:
        return []
    keys = [key for key in by_case[0] if all(key in found for found in by_case)]
    order = {key: at for at, key in enumerate(_order(grid))}
    keys.sort(key=lambda key: order.get(key, len(order)))
    stops = {(cell.layers.first): cell.layers.stop for piece in pieces for cell in piece.cells}
    rows = np.array([[found[key] for found in by_case] for key in keys])
    return [
        pb.CellSummary(
            position=position,
            layers=pb.LayerRange(first=first, stop=stops[first]),
            components=names,
            cases=len(by_case),
            mean_recovery=each.mean,
            low=each.low,
            high=each.high,
        )
        for (position, first, names), each in zip(keys, intervals(rows) if keys else (), strict=True)
    ]


def _order(grid: Grid) -> list[Key]:
    return [(c.position, c.layers.start, c.components) for c in grid.cells_of(0)]


def _valued(piece: pb.SweptCells) -> list[tuple[Key, float]]:
    values = piece.values
    where = values.layers.first, tuple(values.components)
    return [
        *(((f"shapley:{each.segment}", *where), each.shapley) for each in values.segments),
        *(((f"interaction:{each.first}:{each.second}", *where), each.value) for each in values.interactions),
    ]


def result_of(
    grid: Grid, options: Options, pieces: Sequence[pb.SweptCells]
) -> tuple[pb.GraftSweep, pb.GraftSweep]:
    """Return all that a sweep says beyond its cells, and as much of it as goes into one message."""
    whole = pb.GraftSweep(
        summaries=summaries(grid, pieces),
        sufficient=sufficient_sets(pieces),
        previews=preview_checks(grid, options, pieces),
    )
    told = pb.GraftSweep(
        summaries=whole.summaries[:_TOLD],
        sufficient=whole.sufficient[:_TOLD],
        previews=whole.previews[:_TOLD],
    )
    for name in ("summaries", "sufficient", "previews"):
        told.left_out += max(0, len(getattr(whole, name)) - _TOLD)
    return whole, told
