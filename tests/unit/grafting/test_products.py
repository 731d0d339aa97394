"""Products against numpy in float64, and plans against their counts."""

import pytest
import torch

from services.grafting.engine import plan, row_layers
from services.grafting.engine.products import linear
from tests.unit.grafting.zoo import LAYERS, drawn, everything


def drawn_tensor(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


WEIGHTS = {
    "whole": drawn_tensor(24, 40),
    "transposed": drawn_tensor(40, 24).T,
    "some rows of a fused one": drawn_tensor(72, 40)[24:48],
    "some columns": drawn_tensor(24, 80)[:, 40:],
}


@pytest.mark.parametrize("name", list(WEIGHTS))
@pytest.mark.parametrize("count", [0, 1, 9, 130])
def test_products_are_those_of_plain_arithmetic(name: str, count: int):
    rows, weight, bias = drawn_tensor(count, 50)[:, 5:45], WEIGHTS[name], drawn_tensor(72)[8:32]
    expected = rows.double().numpy() @ weight.double().numpy().T
    assert linear(rows, weight).numpy() == pytest.approx(expected, abs=1e-4)
    assert linear(rows, weight, bias).numpy() == pytest.approx(expected + bias.double().numpy(), abs=1e-4)


def test_products_in_bfloat16_stay_in_it():
    rows, weight = drawn_tensor(9, 40).bfloat16(), WEIGHTS["whole"].bfloat16()
    assert torch.equal(linear(rows, weight), torch.nn.functional.linear(rows, weight))


def test_products_are_differentiated_where_that_is_asked():
    rows = drawn_tensor(9, 40).requires_grad_()
    (gradient,) = torch.autograd.grad(linear(rows, WEIGHTS["whole"]).sum(), rows)
    assert torch.allclose(gradient, WEIGHTS["whole"].sum(0).expand(9, -1), atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("reference", [0, 1])
def test_a_plan_is_counted_before_it_is_made(seed: int, reference: int):
    for configuration in (drawn(seed, 9, share=0.05), everything(9)):
        sizes = (reference, 9, LAYERS, 2)
        assert row_layers(configuration, *sizes) == plan(configuration, *sizes).row_layers
