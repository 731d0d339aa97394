"""The ordinary objective: the mean negative log-likelihood of the counted tokens."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from palimpsest.training.batches import Example, collate
from palimpsest.training.order import Order, derived_seed
from palimpsest.training.recipe import Recipe
from palimpsest.training.token_losses import sequence_nll


class CrossEntropy:
    """Mean over all counted tokens of a step's examples, however many forward passes they take.

    Parameters
    ----------
    examples
        The set.
    recipe
        Its batch, micro_batch and seed.
    pad
        Token id that fills rows up.
    device
        Where the module is.
    """

    def __init__(
        self, examples: Sequence[Example], recipe: Recipe, pad: int, device: torch.device | str = "cpu"
    ) -> None:
        self.examples, self.pad, self.device = examples, pad, device
        self.order = Order(len(examples), recipe.batch, derived_seed(recipe.seed, "order"))
        self.at_once = recipe.micro_batch or recipe.batch

    def parts(self, module: nn.Module, step: int) -> Iterator[Tensor]:
        """Yield the parts of the step's loss, one for each forward pass."""
        indices = self.order.at(step)
        for loss, _ in self._passes(module, indices, indices):
            yield loss

    def shares(self, module: nn.Module, step: int, rank: int, size: int) -> Iterator[tuple[Tensor, int]]:
        """Yield the parts that are one rank's, and the examples of each.

        The examples are dealt out by length, so that ranks have about as many tokens each and those of like length go
        together.
        """
        indices = self.order.at(step)
        by_length = sorted(indices, key=lambda index: len(self.examples[index].ids))
        yield from self._passes(module, by_length[rank::size], indices)

    def examples_at(self, step: int) -> int:
        """Return how many examples the step has."""
        return len(self.order.at(step))

    def _passes(
        self, module: nn.Module, mine: Sequence[int], whole: Sequence[int]
    ) -> Iterator[tuple[Tensor, int]]:
        total = sum(sum(self.examples[index].counted) for index in whole)
        for first in range(0, len(mine), self.at_once):
            indices = mine[first : first + self.at_once]
            batch = collate(self.examples, indices, self.pad, self.device)
            yield sequence_nll(module, batch).sum() / max(1, total), len(indices)

    def loss(self, module: nn.Module, step: int) -> Tensor:
        """Return the step's loss at once."""
        return torch.stack(list(self.parts(module, step))).sum()


@torch.no_grad()
def mean_nll(
    module: nn.Module,
    examples: Sequence[Example],
    batch: int,
    pad: int,
    device: torch.device | str = "cpu",
    check: Callable[[], None] = lambda: None,
) -> float:
    """Mean negative log-likelihood in nats over all counted tokens of a set; nan where none counts.

    Parameters
    ----------
    module
        A causal LM of transformers.
    examples
        The set.
    batch
        Examples of a forward pass. Those of like length go together, which changes nothing but the time.
    pad, device
        As in :class:`CrossEntropy`.
    check
        Called for each batch; may raise to stop.
    """
    by_length = sorted(range(len(examples)), key=lambda index: len(examples[index].ids))
    total = 0.0
    for first in range(0, len(by_length), batch):
        check()
        total += (
            sequence_nll(module, collate(examples, by_length[first : first + batch], pad, device))
            .sum()
            .item()
        )
    tokens = sum(sum(example.counted) for example in examples)
    return total / tokens if tokens else float("nan")
