"""Two models that can be grafted: what keeps them apart, donors that are adapters, and loading them."""

from services.grafting.pairs.adapters import AdapterRecord, Donor
from services.grafting.pairs.comparing import (
    Difference,
    Facts,
    differences_of,
    facts_of,
    refusal,
    require_finite,
    require_pair,
)
from services.grafting.pairs.configs import config_of
from services.grafting.pairs.hosting import Pair, PairHost
from services.grafting.pairs.naming import records_of

__all__ = [
    "AdapterRecord",
    "Difference",
    "Donor",
    "Facts",
    "Pair",
    "PairHost",
    "config_of",
    "differences_of",
    "facts_of",
    "records_of",
    "refusal",
    "require_finite",
    "require_pair",
]
