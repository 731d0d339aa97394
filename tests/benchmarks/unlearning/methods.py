"""Every algorithm with its settings, and the course of a removal by it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from tests.benchmarks.unlearning.scoring import Measured

MATCHED = 48.0
"""KnowMem at which the utility of algorithms is compared: about half of what the target knows."""


@dataclass(frozen=True)
class Method:
    """An algorithm with its settings.

    Attributes
    ----------
    values
        Hyper-parameters; the regulariser's weight is that of a retain set four times the forget set.
    epochs
        Passes over the forget set; of a task vector and WHP, of the reinforced model. CIR has rounds among its values.
    strengths
        Instead of epochs, for what is computed once: how far it walks, or how much it subtracts.
    refusals
        It needs other answers: of a document, the second half is the answer to the first.
    teacher
        Name of the method whose result it distils.
    replay
        Sequences of the model's own that are kept beside the retain set; 0: none.
    schedule
        Of the learning rate.
    """

    name: str
    algorithm: str
    values: Mapping[str, object] = field(default_factory=dict)
    learning_rate: float = 1e-4
    epochs: int = 10
    strengths: tuple[float, ...] = ()
    refusals: bool = False
    teacher: str = ""
    replay: int = 0
    schedule: str = "constant"


_DOUBLING = (0.5, 1.0, 2.0, 4.0, 8.0)

METHODS = (
    Method("GA", "ga", epochs=4),
    Method("GA+GDR", "ga_gdr", {"alpha": 3.0}),
    Method("NPO", "npo", {"beta": 0.05}, epochs=6),
    Method("SimNPO+GDR", "simnpo", {"beta": 2.5, "gamma": 1.0, "alpha": 3.0}, learning_rate=2e-4),
    # At -1 the model becomes the reinforced one, which is then walked away from.
    Method("task vector", "tv", {"alpha": -1.0}, strengths=_DOUBLING),
    Method("GA+KLR", "ga_klr", {"alpha": 3.0}),
    Method("NPO+GDR", "npo_gdr", {"beta": 0.05, "alpha": 3.0}),
    Method("NPO+KLR", "npo_klr", {"beta": 0.05, "alpha": 3.0}),
    Method("NPO+GDR by token", "npo_gdr", {"beta": 2.5, "length_norm": "token", "alpha": 3.0}),
    Method("WHP", "whp", strengths=_DOUBLING),
    Method("DPO+GDR", "dpo", {"alpha": 3.0}, refusals=True),
    Method("IDK+GDR", "idk", {"alpha": 3.0}, refusals=True),
    Method("FLAT", "flat", refusals=True, epochs=5),
    Method("RMU", "rmu", {"relative": 6.0, "trained": "all", "alpha": 5.0}),
    Method("UNDIAL", "undial", {"beta": 10.0, "regulariser": "gdr", "alpha": 3.0}),
    Method("WGA+GDR", "wga", {"alpha": 3.0}),
    Method("SatImp+GDR", "satimp", {"alpha": 3.0, "gamma": 1.0}, learning_rate=2e-4),
    Method("SAM-NPO+GDR", "npo_sam", {"beta": 0.05, "alpha": 3.0}),
    Method("RepSelect", "repselect", strengths=(0.25, 0.5, 1.0, 2.0, 4.0)),
    Method("CIR", "cir", {"components": 64, "step": 0.015, "rounds": 15}),
    Method("UNDO of NPO+GDR", "undo", {"alpha": 0.3}, learning_rate=1e-3, epochs=10, teacher="NPO+GDR"),
)


@dataclass(frozen=True)
class Course:
    """What a method did: the target first, then the model after each epoch or at each strength.

    Attributes
    ----------
    at
        Epochs, rounds or strengths.
    seconds
        CPU seconds of training.
    """

    at: tuple[float, ...]
    measured: tuple[Measured, ...]
    seconds: float

    def matched(self, knowmem: float = MATCHED) -> float:
        """Utility where KnowMem first falls to a value, interpolated; nan if it never does."""
        for before, after in pairwise(self.measured):
            if after.knowmem <= knowmem < before.knowmem:
                share = (before.knowmem - knowmem) / (before.knowmem - after.knowmem)
                return before.utility + share * (after.utility - before.utility)
        return float("nan")

    def stopped(self, retrained: Measured) -> int:
        """Index of the first model that knows no more of the forget set than the retrained one, or of the last.

        The rule of MUSE's code ("forget_match").
        """
        known = [each.knowmem <= retrained.knowmem for each in self.measured]
        return known.index(True) if True in known else len(known) - 1

    def facts(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Course":
        """From a file."""
        measured = tuple(Measured.of(each) for each in facts["measured"])
        return cls(tuple(facts["at"]), measured, facts["seconds"])
