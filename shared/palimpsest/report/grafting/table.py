"""The table of a sweep, as the grafting room writes it; keys that are not known here are left alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.json_input import decode
from palimpsest.report.grafting.beyond import (
    Check,
    Enough,
    Summary,
    Values,
    checks_of,
    enough_of,
    summaries_of,
    values_of,
)
from palimpsest.report.grafting.numbers import number

MOST_BYTES = 1 << 30
_FORMAT = "palimpsest.grafts/1"


class Reading(NamedTuple):
    """What one pass says of a target.

    Attributes
    ----------
    values
        By name, as in the contract's GraftReading; None where it is not set. Infinities and NaN are floats here. A cell
        that was estimated has ``estimate`` too, in nats, and perhaps ``strength``; one that was only estimated has
        nothing else. Where a contrast was read, ``margin`` is by how much the target is ahead of it, in nats, and
        ``contrast_logprob``, ``contrast_probability`` and ``contrast_rank`` are its own.
    top
        The most probable token after the prompt.
    """

    values: Mapping[str, float | None]
    top: str


class Contrast(NamedTuple):
    """Another continuation, and what the models' own passes say of it."""

    text: str
    base: Reading
    donor: Reading


class Model(NamedTuple):
    """A model as the table names it."""

    id: str
    fingerprint: str


class Cell(NamedTuple):
    """One graft: a selection by its name, or a token by its number; layers [first, stop); a set of components; whether
    it was grafted, or only estimated.
    """

    row: str
    first: int
    stop: int
    components: tuple[str, ...]
    reading: Reading
    exact: bool = True

    @property
    def layers(self) -> tuple[int, int]:
        """First layer, and the one after the last."""
        return self.first, self.stop


@dataclass(frozen=True)
class Case:
    """One prompt with its target, and its cells in the order of the grid.

    Parameters
    ----------
    prompt, target
        As asked.
    tokens, target_tokens
        Their texts, one by one.
    base, donor
        The models' own passes.
    cells
        In the order of the table.
    values
        Of segments, for each window and set of components with all subsets.
    contrast
        Another continuation that was read too; None without one.
    """

    prompt: str
    target: str
    tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]
    base: Reading
    donor: Reading
    cells: tuple[Cell, ...]
    values: tuple[Values, ...] = ()
    contrast: Contrast | None = None

    @property
    def estimated(self) -> bool:
        """Whether there are estimates."""
        return any("estimate" in cell.reading.values for cell in self.cells)

    @property
    def partly_exact(self) -> bool:
        """Whether some cells were only estimated."""
        return any(not cell.exact for cell in self.cells)

    @property
    def rows(self) -> list[str]:
        """Names of selections, or numbers of tokens, in the order in which they come first."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def windows(self) -> list[tuple[int, int]]:
        """Windows of layers, from the first layer on."""
        return sorted({cell.layers for cell in self.cells})

    @property
    def sets(self) -> list[tuple[str, ...]]:
        """Sets of components, in the order in which they come first."""
        return list(dict.fromkeys(cell.components for cell in self.cells))

    def token_of(self, row: str) -> int | None:
        """The number of the token that a row is, from the end if it is negative; None for any other selection."""
        if not row.removeprefix("-").isdecimal():
            return None
        number, count = int(row), len(self.tokens)
        return number % count if -count <= number < count else None


@dataclass(frozen=True)
class Table:
    """A sweep.

    Parameters
    ----------
    base, donor
        The models.
    architecture, layers
        Of both.
    cases
        In the order in which they were asked.
    raw
        The table as it was read, with everything that is not known here.
    checks, enough, summaries
        Of estimates by case, sets that are enough, and means over cases.
    """

    base: Model
    donor: Model
    architecture: str
    layers: int
    cases: tuple[Case, ...]
    raw: Mapping[str, Any]
    checks: tuple[Check, ...] = ()
    enough: tuple[Enough, ...] = ()
    summaries: tuple[Summary, ...] = ()

    @property
    def cells(self) -> int:
        """Cells of all cases."""
        return sum(len(case.cells) for case in self.cases)


def read_table(data: bytes) -> Table:
    """Read the artefact that ``GraftSweep.table`` names.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST: it is not such a table.
    """
    try:
        raw: Any = decode(data, max_bytes=MOST_BYTES)
        if raw["format"] != _FORMAT:
            raise ValueError(f"its format is {str(raw['format'])[:40]!r}, and {_FORMAT!r} is read here")
        return Table(
            _model(raw["base"]),
            _model(raw["donor"]),
            str(raw["architecture"]),
            int(raw["layers"]),
            tuple(map(_case, raw["cases"])),
            raw,
            checks_of(raw),
            enough_of(raw),
            summaries_of(raw),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        message = f"This is not the table of a sweep: {why}. `palimpsest graft sweep --out FILE` writes one."
        raise InvalidArgument.field(Reason.INVALID_REQUEST, "table", message) from None


def _model(raw: Any) -> Model:
    return Model(str(raw["model"]), str(raw["fingerprint"]))


def _case(raw: Any) -> Case:
    other = raw.get("contrast")
    margins = (
        {} if other is None else {name: {"margin": other[f"{name}_margin"]} for name in ("base", "donor")}
    )
    return Case(
        str(raw["prompt"]),
        str(raw["target"]),
        tuple(map(str, raw["tokens"])),
        tuple(map(str, raw["target_tokens"])),
        _reading(raw["base"] | margins.get("base", {})),
        _reading(raw["donor"] | margins.get("donor", {})),
        tuple(map(_cell, raw["cells"])),
        values_of(raw),
        other and Contrast(str(other["text"]), _reading(other["base"]), _reading(other["donor"])),
    )


def _cell(raw: Any) -> Cell:
    layers = raw["layers"]
    components = tuple(map(str, raw["components"]))
    own = {name: raw[name] for name in ("estimate", "strength") if name in raw}
    exact = "reading" in raw or not own  # a cell with neither is no cell
    if other := raw.get("contrast"):
        own["margin"] = other["margin"]
        own |= {f"contrast_{name}": other["reading"][name] for name in ("logprob", "probability", "rank")}
    reading = _reading({**raw["reading"], **own} if exact else own)
    return Cell(str(raw["position"]), int(layers["first"]), int(layers["stop"]), components, reading, exact)


def _reading(raw: Any) -> Reading:
    values = {name: number(value) for name, value in raw.items() if name not in ("top", "token_logprobs")}
    return Reading(values, str(raw.get("top", "")))
