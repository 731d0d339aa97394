"""What a sweep consists of, piece by piece, always in the same order, so that another attempt can go on."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from services.grafting.attribution.options import Options
from services.grafting.attribution.previews import Estimates, estimated, picked
from services.grafting.attribution.shapley import values_of
from services.grafting.attribution.sufficient import smallest_sufficient
from services.grafting.attribution.trie import SubsetPass, Trie
from services.grafting.convert import reading_message
from services.grafting.engine import Configuration, Grafter, Patch
from services.grafting.pairs import Pair
from services.grafting.readings import Reading
from services.grafting.runs import Batch, PromptRun, batches
from services.grafting.sweeps import Cell, Grid

Check = Callable[[], None]


class Work(NamedTuple):
    """A piece of a sweep: its case, and what makes it."""

    case: int
    make: Callable[[PromptRun, Check], pb.SweptCells]


class Sweep:
    """A checked sweep of two loaded models.

    Parameters
    ----------
    grid, options
        What was asked for.
    pair
        The models.
    grafter
        Whose rows are counted.
    """

    def __init__(self, grid: Grid, options: Options, pair: Pair, grafter: Grafter) -> None:
        self.grid, self.options, self.pair, self.grafter = grid, options, pair, grafter

    def works(self, pieces: Sequence[pb.SweptCells]) -> Iterator[Work]:
        """Yield the pieces to make; ``pieces`` has those made so far, and grows while they are asked for."""
        number = 0
        for case in range(len(self.grid.prompts)):
            begin, cells = number, self.grid.cells_of(case)
            chosen = list(range(len(cells)))
            if self.options.preview is not None:
                yield Work(case, partial(self._previewed, cells))
                number += 1
                if not self.options.everything:
                    top, random = picked(estimates_of(pieces[begin]), self.options.preview, case)
                    chosen = sorted((*top, *random))
            for work in self._grafts(case, [cells[at] for at in chosen]):
                yield work
                number += 1
            if self.options.threshold is not None:
                for layers, names in self.grid.kinds():
                    own = pieces[begin:number]
                    yield Work(case, partial(self._search, case, layers, names, own))
                    number += 1

    def cells_to_graft(self) -> int:
        """Count the cells that will have a reading."""
        preview, total = self.options.preview, 0
        for case in range(len(self.grid.prompts)):
            count = self.grid.count_of(case)
            if preview is not None and not self.options.everything:
                count = min(count, preview.top + preview.random)
            total += count
        return total

    def _grafts(self, case: int, cells: Sequence[Cell]) -> Iterator[Work]:
        if self.grid.axes.subsets:
            for layers, names in self.grid.kinds():
                own = [c for c in cells if (c.layers, c.components) == (layers, names)]
                yield Work(case, partial(self._subsets, case, own))
            return
        configurations = [cell.configuration for cell in cells]
        for batch in batches(self.grid.prompts[case][1], configurations, self.pair.facts.layers):
            own = [cells[at] for at in batch.numbers]
            yield Work(case, partial(self._batch, own, batch))

    def _batch(self, cells: Sequence[Cell], batch: Batch, run: PromptRun, check: Check) -> pb.SweptCells:
        return self._piece(cells, run.read(batch.plans, batch.source, check))

    def _piece(self, cells: Sequence[Cell], readings: Sequence[Reading]) -> pb.SweptCells:
        piece = pb.SweptCells()
        for cell, reading in zip(cells, readings, strict=True):
            _named(piece, cell).reading.CopyFrom(reading_message(reading, self.pair.tokenizer))
        return piece

    def _previewed(self, cells: Sequence[Cell], run: PromptRun, check: Check) -> pb.SweptCells:
        assert self.options.preview is not None
        configurations = [cell.configuration for cell in cells]
        found = estimated(self.grafter, self.pair.weights, run, configurations, self.options.preview, check)
        piece = pb.SweptCells(preview=True)
        for number, cell in enumerate(cells):
            told = _named(piece, cell)
            told.estimate = found.effect[number]
            if found.strength is not None:
                told.strength = found.strength[number]
        return piece

    def _subsets(self, number: int, cells: Sequence[Cell], run: PromptRun, check: Check) -> pb.SweptCells:
        """Graft every subset of the segments for one window and set of components, and value the segments."""
        case, layers, names = run.case, cells[0].layers, cells[0].components
        segments = self.grid.units_of(number)
        extended = [
            case.extended(Configuration((Patch(positions, layers, names),))).patches[0].positions
            for _, positions in segments
        ]
        trie = Trie(len(case.ids), extended)
        own = SubsetPass(self.grafter, self.pair.weights, run.base, trie, layers, names)
        readings = own.read(run.reader, len(case.target), check)
        piece = self._piece(cells, readings)
        piece.values.CopyFrom(_values([name for name, _ in segments], cells[0], readings))
        return piece

    def _search(
        self,
        case: int,
        layers: range,
        names: tuple[str, ...],
        own: Sequence[pb.SweptCells],
        run: PromptRun,
        check: Check,
    ) -> pb.SweptCells:
        assert self.options.threshold is not None
        units = self.grid.units_of(case)
        told, scores = _scores(own, layers, names)
        found = pb.SufficientSet(
            layers=_layers(layers), components=names, threshold=self.options.threshold, order=told, case=case
        )
        if run.reader.donor.recovery is None:
            return pb.SweptCells(sufficient=found)

        def recover(sets: Sequence[tuple[int, ...]]) -> list[float]:
            positions = [sorted({p for unit in each for p in units[unit][1]}) for each in sets]
            return self._recoveries(run, positions, layers, names, check)

        order = sorted(range(len(units)), key=lambda unit: -scores[units[unit][0]])
        answer = smallest_sufficient(order, self.options.threshold, recover)
        found.reached, found.recovery, found.grafts = bool(answer.units), answer.recovery, answer.grafts
        found.positions.extend(units[unit][0] for unit in answer.units)
        taken = {p for unit in answer.units for p in units[unit][1]}
        rest = [p for p in range(len(run.case.prompt)) if p not in taken]
        if answer.units and rest:
            (found.complement,) = self._recoveries(run, [rest], layers, names, check)
            found.grafts += 1
        return pb.SweptCells(sufficient=found)

    def _recoveries(
        self,
        run: PromptRun,
        positions: Sequence[Sequence[int]],
        layers: range,
        names: tuple[str, ...],
        check: Check,
    ) -> list[float]:
        configurations = [Configuration((Patch(each, layers, names),)) for each in positions]
        found = [0.0] * len(configurations)
        for batch in batches(run.case, configurations, self.pair.facts.layers):
            for number, reading in zip(
                batch.numbers, run.read(batch.plans, batch.source, check), strict=True
            ):
                assert reading.recovery is not None  # the models differ
                found[number] = reading.recovery
        return found


def estimates_of(piece: pb.SweptCells) -> Estimates:
    """Read a preview back."""
    effect = np.array([cell.estimate for cell in piece.cells])
    told = bool(piece.cells) and piece.cells[0].HasField("strength")
    return Estimates(effect, np.array([cell.strength for cell in piece.cells]) if told else None)


def _named(piece: pb.SweptCells, cell: Cell) -> pb.GraftCell:
    return piece.cells.add(position=cell.position, layers=_layers(cell.layers), components=cell.components)


def _layers(layers: range) -> pb.LayerRange:
    return pb.LayerRange(first=layers.start, stop=layers.stop)


def _values(names: Sequence[str], cell: Cell, readings: Sequence[Reading]) -> pb.SegmentValues:
    """Value segments by the recoveries of their subsets; without a segment where there is no recovery."""
    told = pb.SegmentValues(layers=_layers(cell.layers), components=cell.components)
    worth = [0.0, *(reading.recovery for reading in readings if reading.recovery is not None)]
    if len(worth) <= len(readings):
        return told
    values, everything = values_of(worth), len(worth) - 1
    for number, name in enumerate(names):
        told.segments.add(
            segment=name,
            shapley=values.shapley[number],
            alone=worth[1 << number],
            without=worth[everything ^ 1 << number],
        )
        for other in range(number):
            told.interactions.add(first=names[other], second=name, value=values.interactions[other, number])
    return told


def _scores(
    own: Sequence[pb.SweptCells], layers: range, names: tuple[str, ...]
) -> tuple[str, dict[str, float]]:
    """How promising units are for a window and set of components, and by what."""

    def fits(told: pb.GraftCell | pb.SegmentValues) -> bool:
        return told.layers.first == layers.start and tuple(told.components) == names

    for piece in own:
        if piece.HasField("values") and fits(piece.values):
            return "shapley", {each.segment: each.shapley for each in piece.values.segments}
        if piece.preview:
            return "preview", {cell.position: cell.estimate for cell in piece.cells if fits(cell)}
    return "cells", {
        cell.position: cell.reading.logprob for piece in own for cell in piece.cells if fits(cell)
    }
