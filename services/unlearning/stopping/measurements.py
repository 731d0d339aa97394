"""What is known of a model at one step of a run: a few numbers, and losses of single texts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from palimpsest.errors import FailedPrecondition, Reason


@dataclass(frozen=True)
class Measurement:
    """Metrics of a model at a step.

    Attributes
    ----------
    step
        Optimiser steps done; 0 before the first, and a fraction between two steps whose weights were mixed.
    values
        Metrics by name, such as ``auc`` or ``knowmem``. One that is not finite is what it is: the run has diverged.
    losses
        Of single texts, in nats a token: ``forget`` and ``holdout``, where a rule compares their distributions.
    """

    step: float
    values: Mapping[str, float]
    losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __getitem__(self, metric: str) -> float:
        """Value of a metric.

        Raises
        ------
        FailedPrecondition
            METRIC_MISSING: it was not measured.
        """
        if metric not in self.values:
            message = f"{metric} was not measured at step {self.step:g}; there are {', '.join(sorted(self.values))}."
            raise FailedPrecondition(Reason.METRIC_MISSING, message)
        return self.values[metric]

    def facts(self) -> dict[str, Any]:
        """All of it as JSON-able data."""
        return {
            "step": self.step,
            "values": dict(self.values),
            "losses": {name: list(values) for name, values in self.losses.items()},
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Measurement":
        """Read what ``facts`` returned."""
        losses = {name: tuple(map(float, values)) for name, values in facts["losses"].items()}
        return cls(float(facts["step"]), {k: float(v) for k, v in facts["values"].items()}, losses)
