"""A sweep: its grid of cells, and the batches in which they run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from palimpsest.errors import InvalidArgument, PalimpsestError, Reason, Violation
from services.grafting.asking import AskedCase, read_case, read_contrast
from services.grafting.engine.configurations import Configuration, Patch
from services.grafting.pairs import Facts
from services.grafting.positions import Prompt, Selection, positions_of
from services.grafting.runs import Case, needs_pass
from services.grafting.selecting import components_of, require_untied, windows_of
from services.grafting.sources import Numbering, Source, require_sweepable
from services.grafting.sweeps.segments import require_segments, require_subsets, subsets_of

MOST_CELLS = 100_000


class Axes(NamedTuple):
    """Rows of the grid by name (none: every token by itself), windows of layers, and sets of components; with
    ``subsets`` every subset of the named selections is a row. Every cell is there for each source (none: the donor).
    """

    positions: tuple[tuple[str, Selection], ...] = ()
    window: int = 0
    stride: int = 0
    components: tuple[tuple[str, ...], ...] = ()
    subsets: bool = False
    sources: tuple[Source, ...] = ()


class Row(NamedTuple):
    """A selection, and the source that is grafted there."""

    selection: str
    source: Source


class Cell(NamedTuple):
    """One cell of the grid, by what names it, and its configuration.

    With several sources, ``position`` names the source too, so that no two cells have the same names.
    """

    position: str
    layers: range
    components: tuple[str, ...]
    configuration: Configuration


@dataclass(frozen=True)
class Grid:
    """All cells of a sweep, checked.

    Parameters
    ----------
    axes
        The same for every case.
    facts
        Of the models.
    cases
        As asked.
    prompts
        Each case as it is read, and what is run of it.
    contrasts
        What is run of each case for its contrast; None without one.
    donors
        Names of the donor and the pair's others.
    """

    axes: Axes
    facts: Facts
    cases: Sequence[AskedCase]
    prompts: list[tuple[Prompt, Case]]
    contrasts: list[Case | None]
    donors: Sequence[str] = ("donor",)

    @classmethod
    def of(
        cls,
        cases: Sequence[AskedCase],
        axes: Axes,
        untie: bool,
        tokenizer: Any,
        facts: Facts,
        donors: Sequence[str] = ("donor",),
    ) -> "Grid":
        """Read and check a sweep.

        Raises
        ------
        InvalidArgument
            As of the contract's Graft, with the case; GRAFTS_TOO_MANY; INVALID_REQUEST: a name is there twice.
        """
        require_sweepable(axes.sources, len(donors) - 1)
        prompts, contrasts = [], []
        for number, asked in enumerate(cases):
            field = f"cases[{number}]"
            with _naming(field):
                prompts.append(read_case(asked, tokenizer, facts, field))
                contrasts.append(read_contrast(asked, prompts[-1][1], tokenizer, facts, field))
        grid = cls(axes, facts, cases, prompts, contrasts, donors)
        sets = grid._sets()
        for number, names in enumerate(sets):
            require_untied(names, facts.tied, untie, f"axes.components[{number}]")
        if len(axes.positions) != len({name for name, _ in axes.positions}):
            raise InvalidArgument.field(
                Reason.INVALID_REQUEST,
                "axes.positions",
                "Two selections have one name; cells are told apart by it.",
            )
        if axes.subsets:
            require_segments([name for name, _ in axes.positions])
        _require_few(sum(grid.count_of(number) for number in range(len(prompts))))
        for number, (prompt, case) in enumerate(prompts):
            with _naming(f"cases[{number}]"):
                units = grid._units(prompt)
                if axes.subsets:
                    require_subsets(units, case)
        return grid

    def count_of(self, case: int) -> int:
        """Count the cells of a case."""
        units = len(self.axes.positions) or len(self.prompts[case][0].ids)
        rows = (1 << units) - 1 if self.axes.subsets else units
        return rows * len(self.kinds()) * len(self._sources)

    def kinds(self) -> list[tuple[range, tuple[str, ...]]]:
        """Return every window of layers with every set of components, the last of which change fastest."""
        windows = windows_of(self.axes.window, self.axes.stride, self.facts.layers)
        return [(layers, names) for layers in windows for names in self._sets()]

    def units_of(self, case: int) -> list[tuple[str, tuple[int, ...]]]:
        """Return the selections of a case, or its tokens, by name."""
        return self._units(self.prompts[case][0])

    def cells_of(self, case: int) -> list[Cell]:
        """Return the cells of a case: sources, positions, layers, components, the last of which change fastest."""
        units = self.units_of(case)
        numbers = Numbering(self._sources, len(self.donors) - 1)
        return [
            Cell(
                self._label(name, source),
                layers,
                names,
                Configuration((Patch(positions, layers, names, numbers.number(source)),)),
            )
            for source in self._sources
            for name, positions in (subsets_of(units) if self.axes.subsets else units)
            for layers, names in self.kinds()
        ]

    def rows_of(self, case: int) -> dict[str, Row]:
        """Return what the positions of cells name; nothing where the sweep names no sources."""
        names = [name for name, _ in self.units_of(case)] if not self.axes.subsets else [
            name for name, _ in subsets_of(self.units_of(case))
        ]  # fmt: skip
        return {self._label(n, source): Row(n, source) for source in self.axes.sources for n in names}

    def _label(self, name: str, source: Source) -> str:
        return f"{name} from {source.label(self.donors)}" if len(self._sources) > 1 else name

    @property
    def _sources(self) -> Sequence[Source]:
        return self.axes.sources or (Source(),)

    @property
    def naive_row_layers(self) -> int:
        """Rows through layers of one whole pass for each cell, and one more for a contrast that needs it."""
        return sum(
            self.count_of(number) * len(each.ids) * self.facts.layers
            for number in range(len(self.prompts))
            for each in self.passes_of(number)
        )

    def passes_of(self, case: int) -> list[Case]:
        """Return what is run of a case: its target, and a contrast that has passes of its own."""
        target, contrast = self.prompts[case][1], self.contrasts[case]
        return [target, contrast] if contrast is not None and needs_pass(target, contrast) else [target]

    def _sets(self) -> list[tuple[str, ...]]:
        return [
            components_of(names, self.facts.has_gate, f"axes.components[{at}].components")
            for at, names in enumerate(self.axes.components or ((),))
        ]

    def _units(self, prompt: Prompt) -> list[tuple[str, tuple[int, ...]]]:
        if not self.axes.positions:
            return [(str(at), (at,)) for at in range(len(prompt.ids))]
        return [
            (name, positions_of(selection, prompt, f"axes.positions[{at}].positions"))
            for at, (name, selection) in enumerate(self.axes.positions)
        ]


def _require_few(cells: int) -> None:
    if cells > MOST_CELLS:
        raise InvalidArgument.field(
            Reason.GRAFTS_TOO_MANY,
            "axes",
            f"The sweep has {cells} cells, and may have {MOST_CELLS}. Use wider windows, fewer sets of components or "
            "fewer cases.",
            cells=cells,
            limit=MOST_CELLS,
        )


@contextmanager
def _naming(case: str) -> Iterator[None]:
    """Name the case in errors about a selection that all cases share: none is left out silently."""
    try:
        yield
    except PalimpsestError as error:
        error.violations = tuple(
            v if v.field.startswith(case) else Violation(v.field, f"{v.description} ({case})")
            for v in error.violations
        )
        error.metadata.setdefault("case", case)
        raise
