"""Models whose matrices stay in 4 or 8 bits, against the models that transformers dequantises."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.utils.quantization_config import BitsAndBytesConfig

from palimpsest.errors import FailedPrecondition, Reason
from palimpsest.models import ModelRecord
from services.grafting.attribution.slopes import slopes_of
from services.grafting.checking import changes_of
from services.grafting.engine import (
    AmplifiedWeights,
    Configuration,
    Grafter,
    LowRankWeights,
    ModelWeights,
    architecture_of,
    deltas_of,
)
from services.grafting.engine.architecture import refuse_by_config
from services.grafting.engine.low_rank import AdapterTensors
from services.grafting.engine.quantised import is_quantised, matrix_of, part_of
from services.grafting.pairs import Facts, Pair
from services.grafting.pairs.comparing import require_finite, shape_differences
from services.grafting.runs import Case
from tests.unit.grafting.zoo import drawn, drawn_ids, everything, make, near, own, swapped

FORMATS: dict[str, dict[str, Any]] = {
    "8 bits": {"load_in_8bit": True},
    "nf4": {
        "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.float32,
    },
    "fp4 in bfloat16": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_compute_dtype": torch.bfloat16},
}  # fmt: skip


def stored(model: Any, folder: Path, form: str) -> Path:
    """A folder with a quantised copy, as people publish it."""
    model.save_pretrained(folder / "plain")
    options = BitsAndBytesConfig(**FORMATS[form])
    made = AutoModelForCausalLM.from_pretrained(
        folder / "plain", quantization_config=options, dtype=torch.float32, attn_implementation="eager"
    )
    made.save_pretrained(folder / "quantised")
    return folder / "quantised"


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(params=["llama", "qwen3", "gpt2", "neox"])
def plain(request):
    return make(request.param, 0)


@pytest.fixture(params=list(FORMATS))
def quantised(request, plain, tmp_path):
    """A quantised model, and the same dequantised by transformers."""
    folder = stored(plain, tmp_path, request.param)
    return loaded(folder), loaded(folder).dequantize().float().eval()


def test_a_quantised_base_is_the_dequantised_one_and_swaps_as_it_does(plain, quantised):
    kept, dense = quantised
    donor, architecture = near(plain, 1), architecture_of(kept)
    assert not list(shape_differences(kept, donor))
    require_finite(kept, "kept")
    engine = Grafter([ModelWeights(kept, architecture), ModelWeights(donor, architecture)], architecture)
    ids = drawn_ids(0, 6)
    assert float((own(dense, ids) - own(plain, ids)).abs().max()) > 1e-3, "rounding is seen"
    assert float((engine.forward(ids, Configuration()) - own(dense, ids)).abs().max()) <= 1e-4
    assert float((engine.forward(ids, everything(6)) - own(donor, ids)).abs().max()) <= 1e-4
    for seed in range(4):
        configuration = drawn(seed, 6)
        expected = swapped((dense, donor), ids, configuration)
        assert float((engine.forward(ids, configuration) - expected).abs().max()) <= 1e-3


def test_a_quantised_donor_acts_in_a_plain_base(plain, quantised):
    kept, dense = quantised
    architecture, ids, configuration = architecture_of(plain), drawn_ids(1, 6), drawn(1, 6)
    engine = Grafter([ModelWeights(plain, architecture), ModelWeights(kept, architecture)], architecture)
    expected = swapped((plain, dense), ids, configuration)
    assert float((engine.forward(ids, configuration) - expected).abs().max()) <= 1e-3


def test_matrices_stay_quantised_and_what_is_taken_of_them_is_let_go(plain, quantised):
    kept, _ = quantised
    weights = ModelWeights(kept, architecture_of(kept))
    modules = [m for m in kept.modules() if is_quantised(m)]
    before = [m.weight.data.clone() for m in modules]
    assert modules
    Grafter([weights], architecture_of(kept)).forward(drawn_ids(0), Configuration())
    assert all(torch.equal(m.weight.data, b) for m, b in zip(modules, before, strict=True))
    held = [m for m in vars(weights)["_matrices"].values() if m[0].is_floating_point()]
    assert not held, "no matrix of a layer is kept dequantised"


def test_adapters_weights_and_gradients_take_a_quantised_base(plain, quantised):
    kept, dense = quantised
    architecture, ids = architecture_of(kept), drawn_ids(2)
    base, same = (ModelWeights(model, architecture) for model in (kept, dense))
    torch.manual_seed(5)
    matrices = {}
    for parts in base.anatomy.layers:
        shape = part_of(kept, parts["down"], torch.float32).shape
        matrices[parts["down"].path] = AdapterTensors(torch.randn(2, shape[1]), torch.randn(shape[0], 2), 0.1)
    found = [LowRankWeights(w, deltas_of(matrices, w.model)) for w in (base, same)]
    for beside in (found, [AmplifiedWeights(w, f, 2.0) for w, f in zip((base, same), found, strict=True)]):
        first, second = (
            Grafter([w, d], architecture).forward(ids, drawn(2, 9))
            for w, d in zip((base, same), beside, strict=True)
        )
        assert float((first - second).abs().max()) <= 1e-3
    case = Case(tuple(ids), (5,))
    slopes = [
        slopes_of((w, f), architecture, Grafter([w, f], architecture).reference(case.ids, 0), case)
        for w, f in zip((base, same), found, strict=True)
    ]
    assert torch.allclose(slopes[0].body, slopes[1].body, atol=1e-3)


def pair_of(base: Any, donor: Any) -> Pair:
    architecture = architecture_of(base)
    weights = ModelWeights(base, architecture), ModelWeights(donor, architecture)
    record: Any = ModelRecord
    facts = Facts(architecture.layers, architecture.context, architecture.has_gate, False)
    return Pair((record, record), Grafter(weights, architecture), weights, facts, None)


def test_norms_of_changes_tell_rounding_from_training(plain, quantised):
    kept, dense = quantised
    untrained = list(changes_of(pair_of(kept, plain)))
    assert untrained
    for change in untrained:  # the donor is what was rounded: all of the change is rounding
        assert change.quantisation_norm == pytest.approx(change.delta_norm, rel=2e-2)
    rounding = {(c.layer, c.component): c.delta_norm for c in untrained}
    donor = near(plain, 1, 0.002)
    trained, against_dense = (
        {(c.layer, c.component): c for c in changes_of(pair_of(base, donor))} for base in (kept, dense)
    )
    matrices = {key: c for key, c in trained.items() if c.quantisation_norm is not None}
    assert {name for _, name in matrices} >= {"q", "o", "up", "down"}
    for key, change in matrices.items():  # of a donor as near as fine-tuned ones are
        assert change.quantisation_norm == pytest.approx(rounding[key], rel=0.15)
    norms = {key: change.delta_norm for key, change in trained.items()}
    assert norms == pytest.approx({key: c.delta_norm for key, c in against_dense.items()}, rel=1e-4)
    assert all(c.quantisation_norm is None for c in changes_of(pair_of(kept, kept)))


def test_other_ways_of_quantising_are_refused_by_name():
    config = make("llama", 0).config.__class__(quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(FailedPrecondition) as caught:
        refuse_by_config(config)
    assert caught.value.reason == Reason.UNSUPPORTED_ARCH
    assert all(word in str(caught.value) for word in ("gptq", "bitsandbytes", "GGUF"))


def test_a_missing_package_is_told_by_name(monkeypatch):
    monkeypatch.setattr("services.grafting.engine.quantised.find_spec", lambda name: None)
    config = make("llama", 0).config.__class__(quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(FailedPrecondition) as caught:
        refuse_by_config(config)
    assert "not installed" in str(caught.value)


def test_a_matrix_comes_in_the_dtype_that_is_asked_for(quantised):
    kept, dense = quantised
    for name, module in kept.named_modules():
        if is_quantised(module):
            found = matrix_of(module, torch.bfloat16)
            assert found.dtype == torch.bfloat16
            assert torch.allclose(found.float(), dense.get_submodule(name).weight, atol=2e-2)
