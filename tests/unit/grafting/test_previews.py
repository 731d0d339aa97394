"""Slopes against swapped weights and transformers' own gradients; what checks say of cells that were not run."""

import copy
from math import comb

import numpy as np
import pytest
import torch

from palimpsest.lm.anatomy import anatomy_of, blocks_of
from services.grafting.attribution import slopes as module
from services.grafting.attribution.options import Preview
from services.grafting.attribution.own_layers import OwnLayer, own_layer_estimates
from services.grafting.attribution.previews import Estimates, checked, estimated, most_above, picked
from services.grafting.attribution.slopes import midpoints, slopes_of
from services.grafting.engine import Configuration, Patch, architecture_of, plan
from services.grafting.engine.configurations import COMPONENTS, LAYER_COMPONENTS, OUTER_COMPONENTS
from services.grafting.runs import Case, PromptRun
from tests.unit.grafting.test_runs import LAYER
from tests.unit.grafting.test_subsets import sources_of
from tests.unit.grafting.zoo import (
    ARCHITECTURES,
    LAYERS,
    drawn_ids,
    everything,
    grafter,
    make,
    near,
    own,
    swapped,
)

STEP = 0.01
SOME = ["llama", "qwen2 with windows", "gemma", "gpt2", "neox"]


def logprob(logits: torch.Tensor, case: Case) -> float:
    logprobs = torch.log_softmax(logits[-len(case.target) :].double(), -1)
    return float(sum(logprobs[n, token] for n, token in enumerate(case.target)))


def slopes(base, donor, case: Case, *more, **options):
    """Slopes beside the base's own pass."""
    reference = PromptRun(grafter(base, donor), case).base
    return slopes_of(sources_of(base, donor), architecture_of(base), reference, case, *more, **options)


def between(base, donor, share: float):
    """The model whose every weight is so far on the way from the base's to the donor's."""
    model = copy.deepcopy(base)
    with torch.no_grad():
        for mine, other in zip(model.parameters(), donor.parameters(), strict=True):
            mine.add_(share * (other - mine))
    return model


@pytest.mark.parametrize(
    "name", [n for n in ARCHITECTURES if n != "qwen3"]
)  # norms of heads are not linear in weights
def test_a_slope_is_what_a_small_share_of_the_donor_changes(name: str):
    base = make(name, 0, torch.float64)
    donor = near(base, 1)
    case = Case(tuple(drawn_ids(2, 4)), (5, 9))
    found = slopes(base, donor, case)
    more, less = between(base, donor, STEP), between(base, donor, -STEP)
    names = [c for c in COMPONENTS if c in anatomy_of(base).layers[0] or c in OUTER_COMPONENTS]
    draw = np.random.default_rng(len(name))
    for component in draw.choice(names, 5, replace=False):
        position, layer = int(draw.integers(5)), int(draw.integers(LAYERS))
        configuration = Configuration((Patch((position,), (layer,), (component,)),))
        there, back = (logprob(swapped((base, m), case.ids, configuration), case) for m in (more, less))
        if component in OUTER_COMPONENTS:
            slope = found.outer[0, position, OUTER_COMPONENTS.index(component)]
        else:
            slope = found.body[0, position, layer, LAYER_COMPONENTS.index(component)]
        assert float(slope) == pytest.approx((there - back) / (2 * STEP), rel=2e-2, abs=2e-3)


def gradients(model, case: Case, dropped: range) -> torch.Tensor:
    """By transformers: gradients by the states after each layer; what some layers add is a constant."""
    states, handles = [], []

    def hook(number: int):
        def after(_module, inputs, output):
            state = inputs[0] + (output - inputs[0]).detach() if number in dropped else output
            states.append(state)
            return state

        return after

    for number, block in enumerate(blocks_of(model)):
        handles.append(block.register_forward_hook(hook(number)))
    try:
        logits = model(input_ids=torch.tensor([case.ids])).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    logprobs = torch.log_softmax(logits[-len(case.target) :].double(), -1)
    total = logprobs[torch.arange(len(case.target)), torch.tensor(case.target)].sum()
    return torch.stack(torch.autograd.grad(total, states))[:, 0]


@pytest.mark.parametrize("name", SOME)
def test_gradients_with_layers_left_out_are_those_of_a_model_in_which_they_are_constants(name: str):
    base, case = make(name, 0), Case(tuple(drawn_ids(2, 6)), (5, 9))
    found = slopes(base, make(name, 1), case, drops=LAYERS)
    for drop, dropped in enumerate([range(0), *(range(n, n + 1) for n in range(LAYERS))]):
        assert torch.allclose(found.residual[drop], gradients(base, case, dropped), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found.residual[0], found.residual[-1])
    alone = slopes(base, make(name, 1), case)
    assert torch.allclose(found.body[:1], alone.body, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SOME)
def test_integrated_slopes_add_up_to_what_the_donor_adds(name: str):
    base = make(name, 0)
    donor = near(base, 1, 0.03)
    case = Case(tuple(drawn_ids(4, 6)), (5, 9))
    found = slopes(base, donor, case, midpoints(16))
    gained = logprob(own(donor, case.ids), case) - logprob(own(base, case.ids), case)
    assert float(found.body.sum() + found.outer.sum()) == pytest.approx(gained, rel=0.02, abs=0.01)
    first = slopes(base, donor, case)
    assert float(first.body.sum() + first.outer.sum()) != pytest.approx(gained, rel=0.02, abs=0.01)


@pytest.mark.parametrize("options", [{"drops": 3}, {"shares": midpoints(4)}])
def test_slopes_in_parts_are_those_at_once(monkeypatch, options):
    base, donor, case = make("llama", 0), make("llama", 1), Case(tuple(drawn_ids(4, 6)), (5, 9))
    whole = slopes(base, donor, case, **options)
    monkeypatch.setattr(module, "ROWS", 15)  # two repetitions, or two points
    parts = slopes(base, donor, case, **options)
    for name in ("body", "outer", "residual"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name), rtol=1e-4, atol=1e-5)
    assert whole.rows == parts.rows


def spliced(base, donor, case: Case, position: int, layer: int) -> torch.Tensor:
    """States after a layer whose every part has the donor's row at one position: [tokens, hidden]."""
    block, other, kept = blocks_of(base)[layer], blocks_of(donor)[layer], []

    def hook(theirs):
        def splice(_module, inputs, output):
            output = output.clone()
            output[:, position] = theirs(inputs[0][:, position])
            return output

        return splice

    names = [n for n, _ in block.named_modules() if n.endswith("_proj") or n.endswith("layernorm")]
    handles = [block.get_submodule(n).register_forward_hook(hook(other.get_submodule(n))) for n in names]
    handles.append(block.register_forward_hook(lambda _module, _inputs, output: kept.append(output[0])))
    with torch.no_grad():
        base(input_ids=torch.tensor([case.ids]))
    for handle in handles:
        handle.remove()
    return kept[0]


@pytest.mark.parametrize("name", ["llama", "qwen2 with windows", "gemma"])
def test_the_own_layer_of_a_graft_is_exact_and_the_rest_is_linear(name: str):
    base, donor = make(name, 0), make(name, 1)
    case, sources = Case(tuple(drawn_ids(6)), (5,)), sources_of(base, donor)
    run = PromptRun(grafter(base, donor), case)
    residual = slopes(base, donor, case).residual
    cells, same = [(p, n) for p in range(9) for n in range(LAYERS)], copy.deepcopy(base)
    grafts = [
        OwnLayer(n, plan(Configuration((Patch((p,), (n,), LAYER),)), 0, 9, LAYERS, 1)) for p, n in cells
    ]
    found, rows = own_layer_estimates(
        sources, architecture_of(base), run.base, residual, grafts, lambda: None
    )
    assert rows == sum(range(1, 10)) * LAYERS
    plain = gradients(base, case, range(0))
    for number, (p, n) in enumerate(cells):
        change = spliced(base, donor, case, p, n) - spliced(base, same, case, p, n)
        assert float(found[0, number]) == pytest.approx(float((plain[n] * change).sum()), rel=1e-3, abs=1e-3)


def errors(size: float, own_layer: bool):
    """Estimates, and how far they are from grafts of a donor whose weights are moved by so much."""
    base = make("llama", 0)
    donor = near(base, 1, size)
    case, engine = Case(tuple(drawn_ids(6)), (5, 9)), grafter(base, donor)
    run = PromptRun(engine, case)
    configurations = [
        *(Configuration((Patch((p,), (n,), LAYER),)) for p in range(9) for n in range(LAYERS)),
        Configuration((Patch((1, 8), range(LAYERS), (*LAYER, "final_norm", "head", "embedding")),)),
        everything(9),
    ]
    options = Preview(5, 5, 0, 0, own_layer, 2)
    found = estimated(engine, sources_of(base, donor), run, configurations, options, lambda: None)
    outputs = len(case.target)
    exact = [logprob(engine.forward(case.ids, case.extended(c), outputs), case) for c in configurations]
    changes = np.array(exact) - run.reader.base.logprob
    assert np.corrcoef(found.effect, changes)[0, 1] > 0.99
    assert found.strength is not None
    assert (found.strength >= found.effect).all()
    return np.abs(found.effect - changes).max(), np.abs(changes).max()


@pytest.mark.parametrize("own_layer", [False, True])
def test_errors_of_estimates_are_of_second_order(own_layer: bool):
    (large, change), (small, _) = errors(0.002, own_layer), errors(0.001, own_layer)
    assert large < 0.25 * change
    assert 3 < large / small < 5


def test_cells_are_picked_by_size_and_by_seed():
    effect = np.random.default_rng(0).normal(size=50)
    top, random = picked(Estimates(effect, None), Preview(8, 6, 3, 0, False, 0), 1)
    assert set(top) == set(np.argsort(effect)[-8:].tolist())
    assert len(set(random) | set(top)) == 14
    assert (top, random) == picked(Estimates(effect, None), Preview(8, 6, 3, 0, False, 0), 1)
    assert random != picked(Estimates(effect, None), Preview(8, 6, 4, 0, False, 0), 1)[1]
    hidden = effect.copy()
    hidden[int(effect.argmin())] = 9.0
    assert int(effect.argmin()) in picked(Estimates(effect, hidden), Preview(8, 6, 3, 0, False, 1), 1)[0]
    assert picked(Estimates(effect[:5], None), Preview(8, 6, 3, 0, False, 0), 1) == ([0, 1, 2, 3, 4], [])


def test_checks_compare_estimates_with_grafts():
    draw = np.random.default_rng(1)
    exact = draw.normal(size=60)
    effect = exact + 0.1 * draw.normal(size=60)
    top, random = picked(Estimates(effect, None), Preview(20, 15, 0, 0, False, 0), 0)
    ran = np.full(60, np.nan)
    ran[top + random] = exact[top + random]
    found, whole = checked(effect, ran, top, random), checked(effect, exact, top, random)
    assert found.correlation == pytest.approx(np.corrcoef(effect[random], exact[random])[0, 1])
    assert whole.correlation == pytest.approx(np.corrcoef(effect, exact)[0, 1])
    assert found.threshold == whole.threshold == np.sort(exact[top])[-10]
    assert found.random_above == sum(exact[random] > found.threshold) == 0
    assert whole.missed_at_most == sum(exact > whole.threshold) - 9 == 0
    assert found.missed_at_most == most_above(40, 15, 0) > 0
    assert found.largest_error == pytest.approx(np.abs(effect - exact)[random].max())


@pytest.mark.parametrize(("cells", "drawn"), [(40, 10), (12, 3), (9, 9), (7, 0)])
def test_the_bound_of_missed_cells_holds_in_nineteen_of_twenty_draws(cells: int, drawn: int):
    for there in range(cells + 1):
        held = sum(
            comb(there, seen) * comb(cells - there, drawn - seen)
            for seen in range(max(0, drawn - (cells - there)), min(there, drawn) + 1)
            if there <= most_above(cells, drawn, seen)
        )
        assert held / comb(cells, drawn) >= 0.95
