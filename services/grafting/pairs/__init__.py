"""Two models that can be grafted: what keeps them apart, donors that are adapters, and loading them."""

from services.grafting.pairs.comparing import (
    Difference,
    Facts,
    config_of,
    differences_of,
    facts_of,
    refusal,
    require_finite,
    require_pair,
)
from services.grafting.pairs.hosting import Pair, PairHost

__all__ = [
    "Difference",
    "Facts",
    "Pair",
    "PairHost",
    "config_of",
    "differences_of",
    "facts_of",
    "refusal",
    "require_finite",
    "require_pair",
]
