"""What was decided of a request's training run, once in all attempts, as its working folder has it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from palimpsest.api.unlearning.v1 import unlearning_pb2 as pb

DECIDED = "together.json"
"""The file of a request's working folder that has it; none for a plan without ``coalesce``."""


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run that another request has carried out.

    Attributes
    ----------
    fingerprint
        Of the model that it made.
    steps, stopped, curve, replayed
        As in the contract's Result.
    """

    fingerprint: str
    steps: int
    stopped: str
    curve: str
    replayed: int = 0


@dataclass(frozen=True)
class Together:
    """Which requests the run is for.

    Attributes
    ----------
    requests
        Names, in the order of the union; the first one trains. Empty: the request's own run, for itself.
    forget
        Digests of their forget sets, in that order; empty where the weights were taken over.
    steps
        Optimiser steps planned.
    taken
        Of the run of the first one, if the weights are that one's; None: they are made here.
    """

    requests: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    steps: int = 0
    taken: RunFacts | None = None

    def message(self) -> pb.SharedRun | None:
        """The run as the contract has it; None for a request's own."""
        return pb.SharedRun(requests=self.requests, steps=self.steps) if self.requests else None

    def facts(self) -> dict[str, Any]:
        """All of it as JSON-able data."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Together":
        """Read what ``facts`` returned, through JSON or not."""
        taken = facts["taken"]
        return cls(
            tuple(facts["requests"]),
            tuple(facts["forget"]),
            facts["steps"],
            None if taken is None else RunFacts(**taken),
        )


ALONE = Together()
"""A request's own run."""
