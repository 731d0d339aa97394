"""Slopes from a pass that was kept whole, against those that compute every layer again."""

import pytest
import torch

from services.grafting.attribution.at_base import slopes_at_base
from services.grafting.attribution.options import Preview
from services.grafting.attribution.previews import estimated
from services.grafting.attribution.slopes import slopes_of
from services.grafting.attribution.traces import MOST_TOKENS, Trace, passes_kept, passes_to_preview
from services.grafting.engine import Configuration, LowRankWeights, Patch
from services.grafting.runs import Case, PromptRun
from tests.unit.grafting.test_quantised import loaded, stored
from tests.unit.grafting.test_runs import LAYER
from tests.unit.grafting.test_subsets import sources_of
from tests.unit.grafting.zoo import ARCHITECTURES, LAYERS, drawn_ids, grafter, make

CASE = Case(tuple(drawn_ids(2, 6)), (5, 9))
OPTIONS = Preview(5, 5, 0, 0, False, 0)


def traced(engine, sources) -> PromptRun:
    return PromptRun(engine, CASE, passes_kept(engine, sources, CASE))


def at_base(engine, sources, run: PromptRun, drops: int):
    assert run.passes is not None
    assert isinstance(run.passes.kept, Trace)
    return slopes_at_base(sources[0], engine.architecture, run, run.passes.kept, drops, lambda: None)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("drops", [0, 2])
def test_slopes_of_a_kept_pass_are_those_of_layers_computed_again(name: str, drops: int):
    base, donor = make(name, 0), make(name, 1)
    sources, engine = sources_of(base, donor), grafter(base, donor)
    run = traced(engine, sources)
    found = at_base(engine, sources, run, drops)
    again = slopes_of(sources, engine.architecture, run.base, CASE, drops=drops)
    for part in ("body", "outer", "residual"):
        mine, theirs = getattr(found, part), getattr(again, part)
        assert mine.shape == theirs.shape
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()))
    assert found.rows < again.rows


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "neox"])
def test_a_kept_pass_reads_as_the_models_own(name: str):
    base, donor = make(name, 0), make(name, 1)
    engine = grafter(base, donor)
    run, plain = traced(engine, sources_of(base, donor)), PromptRun(engine, CASE)
    for mine, theirs in ((run.reader.base, plain.reader.base), (run.reader.donor, plain.reader.donor)):
        assert mine.token_logprobs == pytest.approx(theirs.token_logprobs, abs=1e-4)
        assert mine.rank == theirs.rank
    for mine, theirs in zip(run.base.states, plain.base.states, strict=True):
        assert torch.equal(mine, theirs)


def test_rows_of_the_donor_on_both_inputs_are_counted():
    engine = grafter(make("llama", 0), make("llama", 1))
    traced(engine, sources_of(make("llama", 0), make("llama", 1)))
    assert engine.row_layers == 3 * len(CASE.ids) * LAYERS


def test_passes_are_kept_where_slopes_at_the_base_are_asked_of_few_tokens():
    base, donor = make("llama", 0), make("llama", 1)
    sources, engine = sources_of(base, donor), grafter(base, donor)
    longer = Case((3,) * (MOST_TOKENS + 1), (5,))
    assert passes_to_preview(engine, sources, CASE, OPTIONS) is not None
    assert passes_to_preview(engine, sources, CASE, None) is None
    assert passes_to_preview(engine, sources, CASE, OPTIONS._replace(steps=2)) is None
    assert passes_to_preview(engine, sources, longer, OPTIONS) is None
    beside = (LowRankWeights(sources[0], {}), sources[1])
    assert passes_to_preview(engine, beside, CASE, OPTIONS) is None


@pytest.mark.parametrize("form", ["8 bits", "nf4"])
def test_slopes_of_a_quantised_base_are_those_of_its_dequantised_weights(form: str, tmp_path):
    pytest.importorskip("bitsandbytes", reason="no bitsandbytes here; pip install 'palimpsest-lm[quantised]'")
    base, donor = loaded(stored(make("llama", 0), tmp_path, form)), make("llama", 1)
    sources, engine = sources_of(base, donor), grafter(base, donor)
    run = traced(engine, sources)
    found = at_base(engine, sources, run, 0)
    again = slopes_of(sources, engine.architecture, run.base, CASE)
    assert torch.allclose(found.body, again.body, rtol=1e-3, atol=1e-5 * float(again.body.abs().max()))


@pytest.mark.parametrize("own_layer", [False, True])
def test_estimates_do_not_depend_on_how_slopes_are_found(own_layer: bool):
    base, donor = make("llama", 0), make("llama", 1)
    sources, engine = sources_of(base, donor), grafter(base, donor)
    cells = [
        *(Configuration((Patch((p,), (n,), LAYER),)) for p in range(len(CASE.prompt)) for n in range(LAYERS)),
        Configuration((Patch((0, 3), range(LAYERS), (*LAYER, "embedding", "head")),)),
        Configuration((Patch((0, 3), (1,), LAYER), Patch((3, 4), (1, 2), ("q", "down")))),
    ]
    options = OPTIONS._replace(own_layer=own_layer, drops=2)
    runs = traced(engine, sources), PromptRun(engine, CASE)
    kept, again = (estimated(engine, sources, run, cells, options, lambda: None) for run in runs)
    assert kept.effect == pytest.approx(again.effect, rel=1e-3, abs=1e-4)
    assert kept.strength is not None
    assert kept.strength == pytest.approx(again.strength, rel=1e-3, abs=1e-4)
