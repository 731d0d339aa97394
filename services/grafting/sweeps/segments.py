"""Subsets of named selections: which there are, and whether a case can have them."""

from collections.abc import Iterator, Sequence

from palimpsest.errors import InvalidArgument, Reason
from services.grafting.runs import Case

MOST_SEGMENTS = 8
MOST_ROWS = 1 << 14
"""Rows of all subsets of one case, which go through a layer together."""


def subsets_of(units: Sequence[tuple[str, tuple[int, ...]]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield every subset but the empty one, by its number, a bit for each unit: the names joined, and all positions."""
    for number in range(1, 1 << len(units)):
        chosen = [unit for at, unit in enumerate(units) if number >> at & 1]
        yield "+".join(name for name, _ in chosen), tuple(sorted(p for _, own in chosen for p in own))


def require_segments(names: Sequence[str]) -> None:
    """Refuse names of segments that cannot be joined, and too many of them.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST.
    """
    if not 1 <= len(names) <= MOST_SEGMENTS or any("+" in name for name in names):
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST,
            "axes.positions",
            f"Subsets are of 1 to {MOST_SEGMENTS} named selections, without + in their names.",
        )


def require_subsets(units: Sequence[tuple[str, tuple[int, ...]]], case: Case) -> None:
    """Refuse segments that overlap, and those whose subsets have too many rows.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST, GRAFTS_TOO_MANY.
    """
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
