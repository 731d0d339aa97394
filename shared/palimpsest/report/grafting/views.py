"""A sweep in a notebook: its page, in a frame that keeps its styles and scripts to itself."""

from collections.abc import Callable
from html import escape

from palimpsest.api.grafting.v1 import grafting_pb2 as pb
from palimpsest.report.grafting.page import Work, sweep_page
from palimpsest.report.grafting.table import Table, read_table


class SweepView:
    """What a notebook shows of a sweep.

    Parameters
    ----------
    table
        Of the sweep.
    entity, work
        As of :func:`~palimpsest.report.grafting.page.sweep_page`.
    height
        Of the frame, in pixels.
    """

    def __init__(self, table: Table, entity: str = "", work: Work | None = None, height: int = 900) -> None:
        self.table, self.height = table, height
        self._entity, self._work = entity, work

    @classmethod
    def of(cls, sweep: pb.GraftSweep, read: Callable[[str], bytes], entity: str = "") -> "SweepView":
        """Read the table of a finished sweep.

        Parameters
        ----------
        sweep
            The job's result.
        read
            Reads an artefact by its digest, as ``client.artifacts.read_bytes`` does.
        entity
            As above.
        """
        work = Work(sweep.row_layers, sweep.naive_row_layers)
        return cls(read_table(read(sweep.table.digest)), entity, work)

    @property
    def page(self) -> str:
        """The whole page, as HTML."""
        return sweep_page(self.table, self._entity, self._work)

    def _repr_html_(self) -> str:
        # The frame may run the page's own script, and reach nothing of the notebook.
        return (
            f'<iframe sandbox="allow-scripts" title="Grafts of {escape(self.table.donor.id)} in '
            f'{escape(self.table.base.id)}" srcdoc="{escape(self.page)}" '
            f'style="width: 100%; height: {self.height}px; border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        cases = len(self.table.cases)
        return f"<sweep of {self.table.donor.id} in {self.table.base.id}: {self.table.cells} cells, {cases} cases>"
