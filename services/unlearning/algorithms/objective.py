"""The general form: forget loss times gamma plus retain loss times alpha, as a step's loss."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from palimpsest.training.batches import Batch
from palimpsest.training.token_losses import counts, token_nll
from services.unlearning.algorithms.inputs import Inputs

Term = Callable[[nn.Module, int], Tensor]
"""One term of a loss: of a module and a step, a scalar with a graph."""


@dataclass(frozen=True, eq=False)
class Combined:
    """``gamma * forget + alpha * retain``: the objective of every algorithm that is trained.

    Attributes
    ----------
    forget
        The forget term.
    gamma
        Its weight.
    retain
        The retain term; None: there is none.
    alpha
        Its weight.
    trained
        Names of the parameters the algorithm updates, as ``named_parameters`` gives them; None: all of them.
    """

    forget: Term
    gamma: float = 1.0
    retain: Term | None = None
    alpha: float = 1.0
    trained: tuple[str, ...] | None = None

    def parts(self, module: nn.Module, step: int) -> Iterator[Tensor]:
        """Yield the weighted terms of a step one by one, so that the graph of one pass exists at a time."""
        yield self.gamma * self.forget(module, step)
        if self.retain is not None and self.alpha:
            yield self.alpha * self.retain(module, step)

    def loss(self, module: nn.Module, step: int) -> Tensor:
        """Return the loss of a step: the sum of its parts."""
        return torch.stack(list(self.parts(module, step))).sum()


def mean_nll(module: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy: the mean of the negative log-likelihood over the batch's counted tokens, in nats."""
    return token_nll(module, batch).sum() / counts(batch).sum().clamp(min=1)


def descent(inputs: Inputs) -> Combined:
    """Plain training on the forget set, ``CE_F``: what makes the reinforced model of a task vector and of WHP."""
    return Combined(lambda module, step: mean_nll(module, inputs.forget_batch(step)))


def retraining(inputs: Inputs) -> Combined:
    """Plain training on the retain set, ``CE_R``: exact removal, if the module is the model before any of the data."""
    return Combined(lambda module, step: mean_nll(module, inputs.retain_batch(step)))


class GivenGradient(torch.autograd.Function):
    """A number whose gradient is given: for updates that are not the gradient of a loss at the current weights."""

    @staticmethod
    def forward(ctx, value: Tensor, count: int, *tensors: Tensor | None) -> Tensor:  # noqa: ANN001
        """Return ``value``, which has no graph. ``tensors`` are ``count`` parameters, then their gradients or None."""
        ctx.save_for_backward(*tensors[count:])
        return value.clone()

    @staticmethod
    def backward(ctx, *outputs: Tensor):  # noqa: ANN001, ANN205
        """Return the given gradients, times that of the number."""
        given = [None if tensor is None else outputs[0] * tensor for tensor in ctx.saved_tensors]
        return (None, None, *given, *([None] * len(given)))
