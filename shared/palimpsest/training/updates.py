"""The update of a step: AdamW, whose decay leaves biases and the weights of norms alone."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from palimpsest.training.recipe import Recipe

BLOCK = 1 << 18
"""Elements updated at a time: weight, gradient, both moments and the scratch tensor take 5 MiB of cache."""


def adamw(weights: Mapping[str, nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    """Return the optimiser of a run: decoupled weight decay (Loshchilov and Hutter 2019), on matrices alone."""
    matrices = [weight for weight in weights.values() if weight.dim() > 1]
    others = [weight for weight in weights.values() if weight.dim() <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    on_cpu = all(weight.device.type == "cpu" for weight in weights.values())
    return (BlockwiseAdamW if on_cpu else torch.optim.AdamW)(
        [group for group in groups if group["params"]],
        lr=recipe.learning_rate,
        betas=recipe.betas,
        eps=recipe.epsilon,
    )


class BlockwiseAdamW(torch.optim.AdamW):
    """AdamW that does all of an update to one block of a weight before it takes the next.

    An update is ten passes over as much memory as weights, gradients and moments take. Block by block, all but the
    first are in the cache. Each element meets the operations of torch's own loop in their order, and ends with the same
    bits, which those of its fused kernel are not.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every weight that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state, (beta1, beta2), rate = self.state[weight], group["betas"], group["lr"]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
        state["step"] += 1
        step = state["step"].item()
        rate_now = rate / (1 - beta1**step)
        spread = (1 - beta2**step) ** 0.5
        decay = 1 - rate * group["weight_decay"]
        for w, g, mean, square in _blocks(weight, gradient, state["exp_avg"], state["exp_avg_sq"]):
            if group["weight_decay"]:
                w.mul_(decay)
            mean.lerp_(g, 1 - beta1)
            square.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            w.addcdiv_(mean, square.sqrt().div_(spread).add_(group["eps"]), value=-rate_now)


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Blocks of tensors of one shape, side by side; as they are where one is not contiguous."""
    if tensors[0].numel() <= BLOCK or not all(tensor.is_contiguous() for tensor in tensors):
        yield tensors
        return
    yield from zip(*(tensor.view(-1).split(BLOCK) for tensor in tensors), strict=True)
