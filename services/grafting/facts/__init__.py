"""Sets of facts to graft: invented ones, imported ones, and intervals over them."""

from services.grafting.facts.building import FactSet, build_facts
from services.grafting.facts.counterfact import counterfact_cases
from services.grafting.facts.files import decode_rows, encode_rows, write_facts
from services.grafting.facts.intervals import Interval, difference_of, mean_of, ratio_of
from services.grafting.facts.records import Case, Direction, Fact, Place, Span, Text

__all__ = [
    "Case",
    "Direction",
    "Fact",
    "FactSet",
    "Interval",
    "Place",
    "Span",
    "Text",
    "build_facts",
    "counterfact_cases",
    "decode_rows",
    "difference_of",
    "encode_rows",
    "mean_of",
    "ratio_of",
    "write_facts",
]
