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
from services.grafting.runs import Batch, Case, batches
from services.grafting.selecting import components_of, require_untied, windows_of

MOST_CELLS = 100_000


class Axes(NamedTuple):
    """Rows of the grid by name (none: every token by itself), windows of layers, and sets of components."""

    positions: tuple[tuple[str, Selection], ...] = ()
    window: int = 0
    stride: int = 0
    components: tuple[tuple[str, ...], ...] = ()


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
        rows = sum(len(axes.positions) or len(prompt.ids) for prompt, _ in prompts)
        _require_few(rows * len(windows_of(axes.window, axes.stride, facts.layers)) * len(sets))
        for number, (prompt, _) in enumerate(prompts):
            with _naming(f"cases[{number}]"):
                grid._rows(prompt)
        return grid

    def cells_of(self, case: int) -> list[Cell]:
        """Return the cells of a case: positions, then layers, then components, the last of which change fastest."""
        prompt, _ = self.prompts[case]
        windows = windows_of(self.axes.window, self.axes.stride, self.facts.layers)
        return [
            Cell(name, layers, names, Configuration((Patch(positions, layers, names),)))
            for name, positions in self._rows(prompt)
            for layers in windows
            for names in self._sets()
        ]

    def batches(self) -> Iterator[tuple[int, list[Cell], Batch]]:
        """Yield what runs together, always the same: a case, some of its cells, and their plans."""
        for number, (_, case) in enumerate(self.prompts):
            cells = self.cells_of(number)
            for batch in batches(case, [c.configuration for c in cells], self.facts.layers):
                yield number, [cells[at] for at in batch.numbers], batch

    @property
    def naive_row_layers(self) -> int:
        """Rows through layers of one whole pass for each cell."""
        return sum(
            len(self.cells_of(number)) * len(case.ids) * self.facts.layers
            for number, (_, case) in enumerate(self.prompts)
        )

    def _sets(self) -> list[tuple[str, ...]]:
        return [
            components_of(names, self.facts.has_gate, f"axes.components[{at}].components")
            for at, names in enumerate(self.axes.components or ((),))
        ]

    def _rows(self, prompt: Prompt) -> list[tuple[str, tuple[int, ...]]]:
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
