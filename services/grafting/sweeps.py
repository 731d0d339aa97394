"""A sweep: its grid of cells, and the batches in which they run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from palimpsest.errors import InvalidArgument, PalimpsestError, Reason, Violation
from services.grafting.asking import AskedCase, read_case
from services.grafting.engine.configurations import Configuration, Patch
from services.grafting.pairs import Facts
from services.grafting.positions import Prompt, Selection, positions_of
from services.grafting.runs import Case
from services.grafting.selecting import components_of, require_untied, windows_of

MOST_CELLS = 100_000
MOST_SEGMENTS = 8
MOST_ROWS = 1 << 14
"""Rows of all subsets of one case, which go through a layer together."""


class Axes(NamedTuple):
    """Rows of the grid by name (none: every token by itself), windows of layers, and sets of components; with
    ``subsets`` every subset of the named selections is a row.
    """

    positions: tuple[tuple[str, Selection], ...] = ()
    window: int = 0
    stride: int = 0
    components: tuple[tuple[str, ...], ...] = ()
    subsets: bool = False


class Cell(NamedTuple):
    """One cell of the grid, by what names it, and its configuration."""

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
    """

    axes: Axes
    facts: Facts
    cases: Sequence[AskedCase]
    prompts: list[tuple[Prompt, Case]]

    @classmethod
    def of(cls, cases: Sequence[AskedCase], axes: Axes, untie: bool, tokenizer: Any, facts: Facts) -> "Grid":
        """Read and check a sweep.

        Raises
        ------
        InvalidArgument
            As of the contract's Graft, with the case; GRAFTS_TOO_MANY; INVALID_REQUEST: a name is there twice.
        """
        prompts = []
        for number, asked in enumerate(cases):
            with _naming(f"cases[{number}]"):
                prompts.append(read_case(asked, tokenizer, facts, f"cases[{number}]"))
        grid = cls(axes, facts, cases, prompts)
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
            _require_segments([name for name, _ in axes.positions])
        _require_few(sum(grid.count_of(number) for number in range(len(prompts))))
        for number, (prompt, case) in enumerate(prompts):
            with _naming(f"cases[{number}]"):
                units = grid._units(prompt)
                if axes.subsets:
                    _require_subsets(units, case)
        return grid

    def count_of(self, case: int) -> int:
        """Count the cells of a case."""
        units = len(self.axes.positions) or len(self.prompts[case][0].ids)
        return ((1 << units) - 1 if self.axes.subsets else units) * len(self.kinds())

    def kinds(self) -> list[tuple[range, tuple[str, ...]]]:
        """Return every window of layers with every set of components, the last of which change fastest."""
        windows = windows_of(self.axes.window, self.axes.stride, self.facts.layers)
        return [(layers, names) for layers in windows for names in self._sets()]

    def units_of(self, case: int) -> list[tuple[str, tuple[int, ...]]]:
        """Return the selections of a case, or its tokens, by name."""
        return self._units(self.prompts[case][0])

    def cells_of(self, case: int) -> list[Cell]:
        """Return the cells of a case: positions, then layers, then components, the last of which change fastest."""
        units = self.units_of(case)
        return [
            Cell(name, layers, names, Configuration((Patch(positions, layers, names),)))
            for name, positions in (_subsets(units) if self.axes.subsets else units)
            for layers, names in self.kinds()
        ]

    @property
    def naive_row_layers(self) -> int:
        """Rows through layers of one whole pass for each cell."""
        return sum(
            self.count_of(number) * len(case.ids) * self.facts.layers
            for number, (_, case) in enumerate(self.prompts)
        )

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


def _subsets(units: Sequence[tuple[str, tuple[int, ...]]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every subset but the empty one, by its number, a bit for each unit: the names joined, and all positions."""
    for number in range(1, 1 << len(units)):
        chosen = [unit for at, unit in enumerate(units) if number >> at & 1]
        yield "+".join(name for name, _ in chosen), tuple(sorted(p for _, own in chosen for p in own))


def _require_segments(names: Sequence[str]) -> None:
    if not 1 <= len(names) <= MOST_SEGMENTS or any("+" in name for name in names):
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST,
            "axes.positions",
            f"Subsets are of 1 to {MOST_SEGMENTS} named selections, without + in their names.",
        )


def _require_subsets(units: Sequence[tuple[str, tuple[int, ...]]], case: Case) -> None:
    """Refuse segments that overlap, and those whose subsets have too many rows."""
    taken: dict[int, str] = {}
    for name, positions in units:
        for position in positions:
            if taken.setdefault(position, name) != name:
                raise InvalidArgument.field(
                    Reason.INVALID_REQUEST,
                    "axes.positions",
                    f"{taken[position]!r} and {name!r} both have token {position}. Segments of subsets share no token.",
                    position=position,
                )
    rows = subset_rows(len(case.ids), [min(positions) for _, positions in units])
    if rows > MOST_ROWS:
        raise InvalidArgument.field(
            Reason.GRAFTS_TOO_MANY,
            "axes.positions",
            f"The subsets have {rows} rows, and may have {MOST_ROWS}. Use fewer segments, or later ones.",
            rows=rows,
            limit=MOST_ROWS,
        )


def subset_rows(tokens: int, starts: Sequence[int]) -> int:
    """Count the rows of all subsets of segments, given where each begins: after the i-th, 2^i - 1 for each token."""
    ordered = sorted(starts)
    return sum(
        ((2 << depth) - 1) * (stop - first)
        for depth, (first, stop) in enumerate(zip(ordered, [*ordered[1:], tokens], strict=True))
    )


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
