"""What a training run did, step by step."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class History:
    """The curves of a run so far; one entry a step in each of the first three lists.

    Attributes
    ----------
    losses
        The objective's value before the step's update.
    rates
        Learning rates.
    norms
        Norms of the gradient before clipping.
    validation
        Pairs of the number of steps done and the validation loss after them.
    effective_batch
        Examples of one step.
    stopped
        Why the run ended before its last step: "" (it did not), "probe", or "diverged": the loss or the gradient was no
        longer finite, and the update was left out.
    """

    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    effective_batch: int = 0
    stopped: str = ""

    @property
    def steps(self) -> int:
        """Steps done."""
        return len(self.losses)

    @property
    def diverged(self) -> bool:
        """Whether the run ended because a loss or a gradient was not finite."""
        return self.stopped == "diverged"

    def facts(self) -> dict[str, Any]:
        """All of it as JSON-able data."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "History":
        """Read what ``facts`` returned, through JSON or not."""
        pairs = [(int(step), float(loss)) for step, loss in facts["validation"]]
        return cls(**{**facts, "validation": pairs})
