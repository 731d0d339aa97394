"""What a sweep says beyond its cells: checks of estimates, values of segments, sets that are enough, means."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from palimpsest.report.grafting.numbers import number


class Check(NamedTuple):
    """How well the estimates of a case stand for grafts; as of the contract's PreviewCheck.

    Attributes
    ----------
    case
        Its number, from 0.
    cells, top, random
        Cells, those that were grafted for being the largest, and those drawn at random.
    correlation
        Pearson's; None where it is not set.
    threshold
        The tenth largest change among the grafted cells, in nats.
    random_above, missed_at_most
        Random cells above it, and others that may be.
    largest_error
        Between an estimate and a graft among the random cells, in nats.
    """

    case: int
    cells: int
    top: int
    random: int
    correlation: float | None
    threshold: float
    random_above: int
    missed_at_most: int
    largest_error: float


class Segment(NamedTuple):
    """What a segment adds to the recovery: on average over all orders; and recoveries with it alone, and without it."""

    name: str
    shapley: float
    alone: float
    without: float


class Interaction(NamedTuple):
    """What two segments gain more together than apart; below 0 one can stand in for the other."""

    first: str
    second: str
    value: float


class Values(NamedTuple):
    """The segments of a case, for one window of layers and set of components."""

    layers: tuple[int, int]
    components: tuple[str, ...]
    segments: tuple[Segment, ...]
    interactions: tuple[Interaction, ...]


class Enough(NamedTuple):
    """A set of selections that is enough, or how far all of them get; as of the contract's SufficientSet."""

    case: int
    layers: tuple[int, int]
    components: tuple[str, ...]
    threshold: float
    reached: bool
    positions: tuple[str, ...]
    recovery: float | None
    complement: float | None
    grafts: int


class Summary(NamedTuple):
    """A mean recovery, or a mean value of segments, over cases, with its 95 % interval; as of CellSummary."""

    position: str
    layers: tuple[int, int]
    components: tuple[str, ...]
    cases: int
    mean: float
    low: float | None
    high: float | None


def checks_of(raw: Mapping[str, Any]) -> tuple[Check, ...]:
    """Checks of a table, by case."""
    return tuple(
        Check(
            case=int(each["case"]),
            cells=int(each["cells"]),
            top=int(each["top"]),
            random=int(each["random"]),
            correlation=number(each.get("correlation")),
            threshold=_real(each["threshold"]),
            random_above=int(each["random_above"]),
            missed_at_most=int(each["missed_at_most"]),
            largest_error=_real(each["largest_error"]),
        )
        for each in raw.get("previews", ())
    )


def values_of(raw: Mapping[str, Any]) -> tuple[Values, ...]:
    """Values of segments of a case."""
    return tuple(
        Values(
            *_where(each),
            tuple(
                Segment(str(s["segment"]), *(_real(s[name]) for name in ("shapley", "alone", "without")))
                for s in each["segments"]
            ),
            tuple(
                Interaction(str(i["first"]), str(i["second"]), _real(i["value"]))
                for i in each["interactions"]
            ),
        )
        for each in raw.get("values", ())
    )


def enough_of(raw: Mapping[str, Any]) -> tuple[Enough, ...]:
    """Sets that are enough, by case."""
    return tuple(
        Enough(
            int(each["case"]),
            *_where(each),
            _real(each["threshold"]),
            bool(each["reached"]),
            tuple(map(str, each["positions"])),
            number(each.get("recovery")),
            number(each.get("complement")),
            int(each["grafts"]),
        )
        for each in raw.get("sufficient", ())
    )


def summaries_of(raw: Mapping[str, Any]) -> tuple[Summary, ...]:
    """Means over the cases of a table."""
    return tuple(
        Summary(
            str(each["position"]),
            *_where(each),
            int(each["cases"]),
            _real(each["mean_recovery"]),
            number(each.get("low")),
            number(each.get("high")),
        )
        for each in raw.get("summaries", ())
    )


def _where(raw: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[str, ...]]:
    layers = int(raw["layers"]["first"]), int(raw["layers"]["stop"])
    return layers, tuple(map(str, raw["components"]))


def _real(value: Any) -> float:
    found = number(value)
    return math.nan if found is None else found
