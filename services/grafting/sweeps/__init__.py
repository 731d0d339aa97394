"""A sweep: its grid of cells, and the subsets that are rows of it."""

from services.grafting.sweeps.grid import MOST_CELLS, Axes, Cell, Grid, Row
from services.grafting.sweeps.segments import subset_rows

__all__ = ["MOST_CELLS", "Axes", "Cell", "Grid", "Row", "subset_rows"]
