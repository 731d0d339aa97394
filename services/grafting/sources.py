"""Whose weights are grafted and how much of them, and a grafter that has all of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from palimpsest.errors import InvalidArgument, Reason

if TYPE_CHECKING:
    from services.grafting.engine import Grafter
    from services.grafting.pairs import Pair


class Source(NamedTuple):
    """Weights ``base + weight * (model - base)``.

    Attributes
    ----------
    donor
        0 for the pair's donor, and from 1 for its others.
    weight
        How much of the change acts.
    """

    donor: int = 0
    weight: float = 1.0

    def label(self, names: Sequence[str]) -> str:
        """Say it in words, given the donors' names."""
        name = names[self.donor]
        return name if self.weight == 1 else f"{name} x {self.weight:g}"


class Numbering:
    """Numbers of sources in a grafter: 0 the base, 1 the donor, then the pair's others, then amplified ones.

    Parameters
    ----------
    sources
        All that are used.
    others
        Further donors of the pair.
    """

    def __init__(self, sources: Iterable[Source], others: int) -> None:
        self._others = others
        # Weights of 0 and 1 are those of models.
        self.amplified = list(dict.fromkeys(each for each in sources if each.weight not in (0.0, 1.0)))

    def number(self, source: Source) -> int:
        """Return the number of a source."""
        if source.weight == 0:
            return 0
        if source.weight == 1:
            return 1 + source.donor
        return 2 + self._others + self.amplified.index(source)


def grafter_of(pair: "Pair", sources: Iterable[Source]) -> "Grafter":
    """Return a grafter that numbers its sources as :class:`Numbering` does."""
    from services.grafting.engine import AmplifiedWeights, Grafter

    base, donors = pair.weights[0], (pair.weights[1], *pair.others)
    amplified = [
        AmplifiedWeights(base, donors[each.donor], each.weight)
        for each in Numbering(sources, len(pair.others)).amplified
    ]
    return Grafter((base, *donors, *amplified), pair.grafter.architecture, pair.grafter.device)


def require_in_pair(source: Source, others: int, field: str) -> None:
    """Refuse a donor that the pair does not have.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST.
    """
    if source.donor > others:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST,
            f"{field}.source",
            f"The pair has {others} others, so there is no source {source.donor}; name the model in pair.others.",
        )


def require_sweepable(sources: Sequence[Source], others: int) -> None:
    """Refuse sources of a sweep that are not in the pair or are there twice, and donors that no source names.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST.
    """
    for at, each in enumerate(sources):
        require_in_pair(each, others, f"axes.sources[{at}]")
        if each in sources[:at]:
            raise InvalidArgument.field(
                Reason.INVALID_REQUEST,
                f"axes.sources[{at}]",
                "This source is there already, and every cell has it once.",
            )
    unnamed = set(range(1, 1 + others)) - {each.donor for each in sources}
    if unnamed:
        raise InvalidArgument.field(
            Reason.INVALID_REQUEST,
            f"pair.others[{min(unnamed) - 1}]",
            f"No source of the sweep is this model. Add source {min(unnamed)} to axes.sources, or leave it out.",
        )


def require_own_weights(sources: Sequence[Source], asked: Mapping[str, bool]) -> None:
    """Refuse what a sweep cannot do beside its cells where it grafts other weights than the donor's own.

    Parameters
    ----------
    sources
        Of the sweep.
    asked
        By the field of the request, whether something is asked for that grafts the donor's own weights.

    Raises
    ------
    InvalidArgument
        INVALID_REQUEST.
    """
    for field, there in asked.items():
        if there and tuple(sources) not in ((), (Source(),)):
            raise InvalidArgument.field(
                Reason.INVALID_REQUEST,
                field,
                "Subsets, previews and searches graft the donor's own weights. Leave axes.sources out, or ask for this "
                "in a sweep of its own.",
            )
