"""The paths by which a fact comes out: enrichment before the last token, recall at it, and both together.

After Nief et al. (ICLR 2026): what is known of an entity is put into its tokens on the way (enrichment), and brought
out at the last token (recall). A row of a sweep is on one of them by its position, or by its name.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from palimpsest.errors import InvalidArgument, Reason
from palimpsest.report.grafting.table import Case, Cell, Table
from palimpsest.report.grafting.words import shell_word

_ENTITY = frozenset({"entity", "subject", "fe", "enrichment"})
_LAST = frozenset({"last", "lt", "recall", "-1"})
PATHS = {
    "enrichment": "Enrichment, before the last token",
    "recall": "Recall, at the last token",
    "both": "Both together",
}


class Found(NamedTuple):
    """The best of a path's cells with one set of components.

    Attributes
    ----------
    path
        Of ``PATHS``.
    components
        The set.
    cell
        With the highest recovery, or log-probability where recovery is not set; the first of equal ones.
    synergy
        Of both together: recovery beyond the sum of the two alone in the same layers; None where the sweep lacks them.
    """

    path: str
    components: tuple[str, ...]
    cell: Cell
    synergy: float | None = None


class Mean(NamedTuple):
    """A path over all cases that have it: cases, mean recovery and probability, and the share with rank 1."""

    path: str
    components: tuple[str, ...]
    cases: int
    recovery: float | None
    probability: float | None
    first: float


def paths_of(case: Case, entity: str = "") -> list[Found]:
    """The best cell of each path and set of components, as far as the sweep has them.

    Parameters
    ----------
    case
        With its cells.
    entity
        Take the enrichment at this text's tokens alone.

    Raises
    ------
    InvalidArgument
        SPAN_NOT_FOUND: the prompt's tokens do not have the entity.
    """
    at = frozenset(tokens_of(case, entity)) if entity else None
    by_row = {row: _path(case, row, at) for row in case.rows}
    found: list[Found] = []
    for components in case.sets:
        cells = [cell for cell in case.cells if cell.components == components and cell.exact]
        for path in PATHS:
            on_path = [cell for cell in cells if by_row[cell.row] == path]
            if on_path:
                best = max(on_path, key=_worth)
                synergy = _synergy(best, cells, by_row) if path == "both" else None
                found.append(Found(path, components, best, synergy))
    return found


def means_of(table: Table, entity: str = "") -> list[Mean]:
    """Each path and set of components over the cases."""
    by_path: dict[tuple[str, tuple[str, ...]], list[Cell]] = {}
    for case in table.cases:
        for each in paths_of(case, entity):
            by_path.setdefault((each.path, each.components), []).append(each.cell)
    return [
        Mean(
            path,
            components,
            len(cells),
            _mean(cell.reading.values.get("recovery") for cell in cells),
            _mean(cell.reading.values.get("probability") for cell in cells),
            sum(cell.reading.values.get("rank") == 1 for cell in cells) / len(cells),
        )
        for (path, components), cells in by_path.items()
    ]


def tokens_of(case: Case, text: str) -> list[int]:
    """Numbers of the tokens that a text of the prompt is made of, wherever it is; white space counts for nothing.

    Raises
    ------
    InvalidArgument
        SPAN_NOT_FOUND.
    """
    letters = [
        (at, letter) for at, token in enumerate(case.tokens) for letter in token if not letter.isspace()
    ]
    joined, wanted = "".join(letter for _, letter in letters), "".join(text.split())
    found: set[int] = set()
    start = joined.find(wanted) if wanted else -1
    while start >= 0:
        found.update(at for at, _ in letters[start : start + len(wanted)])
        start = joined.find(wanted, start + 1)
    if not found:
        message = f"{text!r} is not in the tokens of {case.prompt[:80]!r}."
        raise InvalidArgument.field(Reason.SPAN_NOT_FOUND, "entity", message)
    return sorted(found)


def command_for_both(table: Table, case: Case, found: Sequence[Found]) -> str:
    """The command that grafts both paths' best places together; empty where a path is missing, or a place unnamed."""
    by_path = {each.path: each for each in reversed(found)}
    if "both" in by_path or not {"enrichment", "recall"} <= by_path.keys():
        return ""
    before, last = by_path["enrichment"], by_path["recall"]
    words = ["palimpsest", "graft", "run", table.base.id, table.donor.id, "--prompt", case.prompt]
    words += ["--target", case.target, "--at", before.cell.row, "--at", last.cell.row]
    return " ".join(map(shell_word, [*words, "--components", ",".join(before.components)]))


def _path(case: Case, row: str, entity: frozenset[int] | None) -> str:
    """The path of a row; empty for one that is on none, such as all tokens."""
    token, last = case.token_of(row), len(case.tokens) - 1
    if token is not None:
        return "recall" if token == last else "enrichment" if entity is None or token in entity else ""
    parts = {part.strip().casefold() for part in row.split("+")}
    if parts == {"both"} or (len(parts) == 2 and parts & _ENTITY and parts & _LAST):
        return "both"
    if parts <= _LAST:
        return "recall"
    text = row.rpartition("#")[0] if row.rpartition("#")[2].isdecimal() else row
    if parts <= _ENTITY or (
        text and text in case.prompt and not case.prompt.rstrip().endswith(text.rstrip())
    ):
        return "enrichment"
    return ""


def _worth(cell: Cell) -> tuple[float, float]:
    values = cell.reading.values
    worth: Callable[[str], float] = lambda name: _or_least(values.get(name))  # noqa: E731
    return worth("recovery"), worth("logprob")


def _or_least(value: float | None) -> float:
    return -math.inf if value is None or math.isnan(value) else value


def _synergy(both: Cell, cells: Iterable[Cell], by_row: dict[str, str]) -> float | None:
    """Recovery beyond the sum of each alone; of several rows on a path the best counts."""
    whole = both.reading.values.get("recovery")
    alone = []
    for path in ("enrichment", "recall"):
        same = [cell for cell in cells if by_row[cell.row] == path and cell.layers == both.layers]
        alone.append(max(same, key=_worth).reading.values.get("recovery") if same else None)
    first, second = alone
    return None if whole is None or first is None or second is None else whole - first - second


def _mean(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(told) if told else None
