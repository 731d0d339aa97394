"""What a training run minimises, as the loop sees it."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


class Objective(Protocol):
    """A function of the weights and the step. One that depends on more is also ``Stateful``."""

    def loss(self, module: nn.Module, step: int) -> Tensor:
        """Return a scalar with a graph, for step 0, 1, ...

        What it draws is a function of the step: examples by ``Order.at(step)``. torch's own generator is seeded from
        the run's seed and the step before the call.
        """
        ...


@runtime_checkable
class PartedObjective(Protocol):
    """An objective whose loss comes in parts, so that the graph of only one forward pass exists at a time."""

    def parts(self, module: nn.Module, step: int) -> Iterator[Tensor]:
        """Yield scalars with graphs whose sum is the loss of the step."""
        ...


@runtime_checkable
class SharedObjective(PartedObjective, Protocol):
    """An objective that several ranks compute together: each the part of the sum that its own examples have."""

    def shares(self, module: nn.Module, step: int, rank: int, size: int) -> Iterator[tuple[Tensor, int]]:
        """Yield scalars with graphs, and how many examples each is of.

        Those of all ranks sum to the loss of the step; each example of the step is in one rank's share. A rank may have
        none.
        """
        ...

    def examples_at(self, step: int) -> int:
        """Return how many examples the step has."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """An objective or probe that remembers something from step to step."""

    def state(self) -> dict[str, Any]:
        """Return it as JSON-able data; floats survive exactly."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` returned."""
        ...
