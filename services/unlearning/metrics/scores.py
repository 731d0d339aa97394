"""One form for the results of all metrics."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from palimpsest.errors import InvalidArgument, Reason
from services.unlearning.metrics.intervals import Bootstrap

Direction: TypeAlias = Literal["lower", "higher", "target"]
"""Whether less is better, more is better, or nearness to the target is."""


@dataclass(frozen=True)
class Definition:
    """What a metric is.

    Parameters
    ----------
    metric
        Its id.
    version
        Raised when the same model and items would give another value than before.
    unit
        Unit of the value: "percent", "share" (0 to 1), "nats", "perplexity", "p-value" and so on.
    direction
        What is better.
    target
        The value to reach, where it is the same for every model; elsewhere it is the retrained model's value.
    """

    metric: str
    version: int
    unit: str
    direction: Direction
    target: float | None = None


@dataclass(frozen=True)
class ItemValue:
    """The value of one item.

    Parameters
    ----------
    id
        The item's id.
    value
        In the score's unit where the score is a mean, else what its definition says.
    group
        The set it is of, for metrics that compare two ("forget", "holdout").
    """

    id: str
    value: float
    group: str = ""


@dataclass(frozen=True)
class Score:
    """A metric's value for one model.

    Parameters
    ----------
    definition
        Which metric.
    value
        In the definition's unit.
    n
        Number of items.
    interval
        Ends of the 95 % percentile bootstrap interval over items; None where there is none.
    convention
        The variant that was measured, such as whose ROUGE.
    items
        Values of the single items, in the order in which they were given.
    target
        The value to reach; None where it is not known.
    reference
        Id of the model whose value the target is.
    """

    definition: Definition
    value: float
    n: int
    interval: tuple[float, float] | None = None
    convention: str = ""
    items: tuple[ItemValue, ...] = ()
    target: float | None = None
    reference: str = ""

    def __post_init__(self) -> None:
        if self.target is None:
            object.__setattr__(self, "target", self.definition.target)

    @property
    def metric(self) -> str:
        """The metric's id."""
        return self.definition.metric

    def against(self, reference: "Score", name: str) -> "Score":
        """Return this score with a reference model's value as the target.

        Raises
        ------
        InvalidArgument
            METRIC_ITEMS_INVALID: the two are not the same metric in the same version and convention.
        """
        if (self.definition, self.convention) != (reference.definition, reference.convention):
            message = (
                f"{_named(self)} cannot be compared with {_named(reference)}. Measure both models with the same "
                "metric, version and convention."
            )
            raise InvalidArgument(Reason.METRIC_ITEMS_INVALID, message)
        return replace(self, target=reference.value, reference=name)


def mean_score(
    definition: Definition, values: Mapping[str, float], bootstrap: Bootstrap | None, convention: str = ""
) -> Score:
    """Score the mean of values by item; ``bootstrap`` None takes the usual one."""
    array = np.array(list(values.values()), np.float64)
    return Score(
        definition,
        float(array.mean()),
        len(array),
        (bootstrap or Bootstrap()).mean(array),
        convention,
        tuple(ItemValue(name, float(value)) for name, value in values.items()),
    )


def finite(value: float | None) -> float | None:
    """Return the value, or None for what JSON has no number for."""
    return value if value is not None and math.isfinite(value) else None


def _named(score: Score) -> str:
    convention = f" ({score.convention})" if score.convention else ""
    return f"{score.metric} version {score.definition.version}{convention}"
