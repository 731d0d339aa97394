"""One case of a sweep: its passes, and its pieces with all that names and reads their cells."""

from collections.abc import Iterable

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from services.grafting.attribution.traces import passes_to_preview
from services.grafting.attribution.works import Check, Sweep, Work
from services.grafting.contrasts import ContrastedRun
from services.grafting.convert import reading_message
from services.grafting.runs import PromptRun
from services.grafting.sweeps import Grid


class CaseRun:
    """Makes the pieces of one case.

    Parameters
    ----------
    whole
        The sweep.
    case
        Its number.
    """

    def __init__(self, whole: Sweep, case: int) -> None:
        self._whole, self.case = whole, case
        grid = whole.grid
        target, contrast = grid.prompts[case][1], grid.contrasts[case]
        passes = passes_to_preview(whole.grafter, whole.pair.weights, target, whole.options.preview)
        self._run = (
            PromptRun(whole.grafter, target, passes)
            if contrast is None
            else ContrastedRun(whole.grafter, target, contrast, passes)
        )
        together = contrast is None or grid.axes.subsets
        cells = [] if together else grid.cells_of(case)
        self._cells = {(cell.position, cell.layers.start, cell.components): cell for cell in cells}

    def make(self, work: Work, check: Check) -> pb.SweptCells:
        """Do a piece of work."""
        run, tokenizer = self._run, self._whole.pair.tokenizer
        if isinstance(run, ContrastedRun):
            run.begin()
        piece = work.make(run, check)
        piece.case = self.case
        piece.base.CopyFrom(reading_message(run.reader.base, tokenizer))
        piece.donor.CopyFrom(reading_message(run.reader.donor, tokenizer))
        if isinstance(run, ContrastedRun) and piece.cells and not piece.preview:
            run.add_to(piece, work, self._cells, tokenizer, check)
        name_sources(self._whole.grid, self.case, piece.cells)
        return piece


def name_sources(grid: Grid, case: int, cells: Iterable[pb.GraftCell]) -> None:
    """Write into cells whose weights each grafts, where the sweep names sources."""
    rows = grid.rows_of(case) if grid.axes.sources else {}
    for cell in cells if rows else ():
        row = rows[cell.position]
        cell.selection, cell.source, cell.weight = (
            row.selection,
            grid.donors[row.source.donor],
            row.source.weight,
        )
