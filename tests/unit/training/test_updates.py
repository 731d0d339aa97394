"""AdamW in blocks: the bits of torch's own loop, whatever the shapes."""

import pytest
import torch
from torch import nn

from palimpsest.training import Recipe, updates
from palimpsest.training.updates import BlockwiseAdamW, adamw

SHAPES = [(7, 9), (5,), (64, 33), (1, 1), (300,)]


def weights(dtype):
    torch.manual_seed(2)
    made = {f"w{n}": nn.Parameter(torch.randn(shape, dtype=dtype)) for n, shape in enumerate(SHAPES)}
    made["turned"] = nn.Parameter(torch.randn(30, 50, dtype=dtype).T)
    made["idle"] = nn.Parameter(torch.randn(4, 4, dtype=dtype))
    return made


def steps(optimizer, made, count):
    for number in range(count):
        torch.manual_seed(number)
        for name, weight in made.items():
            weight.grad = None if name == "idle" else torch.randn(weight.shape, dtype=weight.dtype)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (number + 1)
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("block", [16, 100, 1 << 18])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_blocks_end_with_the_same_bits(monkeypatch, dtype, block, decay):
    monkeypatch.setattr(updates, "BLOCK", block)
    recipe = Recipe(steps=1, weight_decay=decay, betas=(0.8, 0.95), epsilon=1e-7)
    ours, theirs = weights(dtype), weights(dtype)
    optimizer = adamw(ours, recipe)
    assert isinstance(optimizer, BlockwiseAdamW)
    groups = [
        {"params": [theirs[name] for name, weight in ours.items() if (weight.dim() > 1) == matrices]}
        | {"weight_decay": decay if matrices else 0.0}
        for matrices in (True, False)
    ]
    plain = torch.optim.AdamW(groups, betas=recipe.betas, eps=recipe.epsilon, foreach=False)
    steps(optimizer, ours, 4)
    steps(plain, theirs, 4)
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name
        assert optimizer.state[weight].keys() == plain.state[theirs[name]].keys()
        for kind, value in optimizer.state[weight].items():
            assert torch.equal(value, plain.state[theirs[name]][kind]), (name, kind)
