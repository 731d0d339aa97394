"""Adapters beside the base, read from what training stores, against the model that they are merged into."""

import copy
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from palimpsest.errors import FailedPrecondition, InvalidArgument, PalimpsestError, Reason
from palimpsest.training.adapters import attach, merge, save_adapter
from palimpsest.training.recipe import LoraSettings
from services.grafting.engine import (
    AmplifiedWeights,
    Configuration,
    Grafter,
    LowRankWeights,
    ModelWeights,
    architecture_of,
    deltas_of,
)
from services.grafting.pairs.adapters import AdapterRecord, read_adapter
from tests.unit.grafting.zoo import drawn, drawn_ids, everything, grafter, make, near, own, swapped

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def nobody(name: str) -> Any:
    raise AssertionError(name)


def packed(files: dict[str, bytes]) -> AdapterRecord:
    """An artefact of these files."""
    with io.BytesIO() as out:
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        data = out.getvalue()
    return AdapterRecord("sha256:" + "0" * 64, len(data), lambda: data, nobody)


def trained(base: Any, folder: Path, **settings: Any) -> tuple[dict[str, bytes], Any]:
    """Files of an adapter as training stores it, and the model that it is merged into."""
    model = copy.deepcopy(base)
    attach(model, LoraSettings(**{"rank": 3, "alpha": 7.0, **settings}), seed=3)
    torch.manual_seed(4)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.copy_(0.2 * torch.randn_like(value))
    save_adapter(model, folder, "base")
    merge(model)
    return {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}, model


def beside(base: Any, files: dict[str, bytes]) -> tuple[ModelWeights, LowRankWeights]:
    weights = ModelWeights(base, architecture_of(base))
    return weights, LowRankWeights(weights, deltas_of(read_adapter(packed(files)).matrices(), base))


@pytest.fixture(params=["llama", "qwen3", "gpt2", "neox", "gemma"])
def base(request):
    return make(request.param, 0)


def test_an_adapter_from_its_artefact_is_the_merged_model_and_swaps_as_it_does(base, tmp_path):
    files, merged = trained(base, tmp_path)
    weights, donor = beside(base, files)
    engine = Grafter([weights, donor], architecture_of(base))
    ids = drawn_ids(8, 6)
    assert float((own(merged, ids) - own(base, ids)).abs().max()) > 1e-2
    for configuration in (Configuration(base=1), everything(6)):
        assert float((engine.forward(ids, configuration) - own(merged, ids)).abs().max()) <= 1e-4
    for seed in range(4):
        configuration = drawn(seed, 6)
        expected = swapped((base, merged), ids, configuration)
        assert float((engine.forward(ids, configuration) - expected).abs().max()) <= 1e-3


def test_an_adapter_is_amplified_as_its_merged_model_is(base, tmp_path):
    files, merged = trained(base, tmp_path)
    weights, donor = beside(base, files)
    architecture, ids = architecture_of(base), drawn_ids(2)
    found = Grafter([weights, AmplifiedWeights(weights, donor, 2.0)], architecture)
    theirs = ModelWeights(merged, architecture)
    expected = Grafter([weights, AmplifiedWeights(weights, theirs, 2.0)], architecture)
    for configuration in (Configuration(base=1), drawn(5, 9)):
        difference = found.forward(ids, configuration) - expected.forward(ids, configuration)
        assert float(difference.abs().max()) <= 1e-3


def test_an_adapter_and_a_model_are_donors_together(base, tmp_path):
    files, merged = trained(base, tmp_path)
    weights, donor = beside(base, files)
    architecture, other = architecture_of(base), near(base, 1)
    ids, configuration = drawn_ids(3), drawn(3, 9, sources=3)
    both = Grafter([weights, donor, ModelWeights(other, architecture)], architecture)
    expected = grafter(base, merged, other).forward(ids, configuration)
    assert float((both.forward(ids, configuration) - expected).abs().max()) <= 1e-3


def test_ranks_by_module_and_stabilised_scales_are_read(tmp_path):
    base = make("llama", 0)
    files, _ = trained(base, tmp_path)
    plain = read_adapter(packed(files)).matrices()
    config = {**json.loads(files[CONFIG]), "use_rslora": True}
    stabilised = read_adapter(packed({**files, CONFIG: json.dumps(config).encode()})).matrices()
    for path, each in plain.items():
        assert each.scale == pytest.approx(7 / 3)
        assert stabilised[path].scale == pytest.approx(7 / 3**0.5)


def test_the_norm_of_a_change_is_that_of_the_product(base, tmp_path):
    files, merged = trained(base, tmp_path)
    weights, donor = beside(base, files)
    theirs = ModelWeights(merged, architecture_of(base))
    for (layer, name), delta in donor.deltas.items():
        mine, other = (w.anatomy.layers[layer][name].weight(w.model).double() for w in (weights, theirs))
        assert delta.norm() == pytest.approx(float((other - mine).norm()), rel=1e-4)


Change = Callable[[dict[str, bytes]], dict[str, bytes]]


def _config(**changes: Any) -> Change:
    def change(files: dict[str, bytes]) -> dict[str, bytes]:
        return {**files, CONFIG: json.dumps({**json.loads(files[CONFIG]), **changes}).encode()}

    return change


def _weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Change:
    def changed(files: dict[str, bytes]) -> dict[str, bytes]:
        tensors = load(files[WEIGHTS])
        change(tensors)
        return {**files, WEIGHTS: save(tensors)}

    return changed


A_MATRIX = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
HEAD = "base_model.model.lm_head.lora_{}.weight"
BAD: dict[str, tuple[Change, Reason, str]] = {
    "another kind of adapter": (_config(peft_type="IA3"), Reason.ADAPTER_INVALID, "LoRA"),
    "DoRA": (_config(use_dora=True), Reason.ADAPTER_INVALID, "use_dora"),
    "trained biases": (_config(bias="all"), Reason.ADAPTER_INVALID, "bias"),
    "whole modules": (_config(modules_to_save=["lm_head"]), Reason.ADAPTER_INVALID, "modules_to_save"),
    "scales by module": (_config(alpha_pattern={"q_proj": 4}), Reason.ADAPTER_INVALID, "alpha_pattern"),
    "a config that is no object": (lambda files: {**files, CONFIG: b"[]"}, Reason.ADAPTER_INVALID, "LoRA"),
    "a config that is no JSON": (lambda files: {**files, CONFIG: b"{"}, Reason.ADAPTER_INVALID, CONFIG),
    "no weights": (lambda files: {CONFIG: files[CONFIG]}, Reason.ADAPTER_INVALID, WEIGHTS),
    "weights that are none": (lambda files: {**files, WEIGHTS: b"x" * 64}, Reason.ADAPTER_INVALID, WEIGHTS),
    "half of a pair": (_weights(lambda t: t.__delitem__(A_MATRIX)), Reason.ADAPTER_INVALID, "q_proj"),
    "a tensor of another kind": (
        _weights(lambda t: t.update({"base_model.model.lm_head.weight": torch.zeros(2, 2)})),
        Reason.ADAPTER_INVALID, "lm_head",
    ),
    "whole numbers": (
        _weights(lambda t: t.update({A_MATRIX: torch.zeros(3, 32, dtype=torch.int8)})),
        Reason.ADAPTER_INVALID, "q_proj",
    ),
    "a scale that is none": (_config(lora_alpha="7"), Reason.ADAPTER_INVALID, "lora_alpha"),
    "another shape": (
        _weights(lambda t: t.update({A_MATRIX: torch.zeros(3, 5)})), Reason.ARCH_MISMATCH, "q_proj",
    ),
    "NaN": (
        _weights(lambda t: t.update({A_MATRIX: torch.full((3, 32), float("nan"))})),
        Reason.NON_FINITE_WEIGHTS, "q_proj",
    ),
    "the vocabulary": (
        _weights(lambda t: t.update({HEAD.format("A"): torch.zeros(3, 32), HEAD.format("B"): torch.zeros(61, 3)})),
        Reason.COMPONENT_OUT_OF_RANGE, "lm_head",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_what_cannot_act_by_rows_is_refused_by_name(tmp_path, name: str):
    change, reason, told = BAD[name]
    base = make("llama", 0)
    files, _ = trained(base, tmp_path)
    with pytest.raises(PalimpsestError) as caught:
        deltas_of(read_adapter(packed(change(files))).matrices(), base)
    assert isinstance(caught.value, InvalidArgument | FailedPrecondition)
    assert caught.value.reason == reason
    assert told in str(caught.value)


def test_links_in_an_artefact_are_not_followed(tmp_path):
    files, _ = trained(make("llama", 0), tmp_path)
    with io.BytesIO() as out:
        with tarfile.open(fileobj=out, mode="w") as tar:
            entry = tarfile.TarInfo(CONFIG)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(entry)
            entry = tarfile.TarInfo(WEIGHTS)
            entry.size = len(files[WEIGHTS])
            tar.addfile(entry, io.BytesIO(files[WEIGHTS]))
        data = out.getvalue()
    with pytest.raises(InvalidArgument) as caught:
        read_adapter(AdapterRecord("sha256:" + "0" * 64, len(data), lambda: data, nobody))
    assert caught.value.reason == Reason.ADAPTER_INVALID
