"""Quantisation: the grids against plain loops, weights restored, and an unlearning that a grid undoes."""

import contextlib
import copy
import math

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from palimpsest.errors import FailedPrecondition, InvalidArgument, Reason
from palimpsest.models import convert_gguf
from palimpsest.training.adapters import attach
from palimpsest.training.recipe import LoraSettings
from services.unlearning.attacks import Metric, attack_model, quantisation, standard_schemes, table
from services.unlearning.attacks.quantisation import (
    GGUF_FORMATS,
    cast,
    gguf_format,
    quantised,
    quantised_copy,
    round_to_nearest,
)
from tests.gguf_files import write_gguf
from tests.unit.unlearning import knowing

EM = Metric("em", threshold=10.0)


def half_away(value):
    return math.copysign(math.floor(abs(value) + 0.5), value)


def nearest(row, bits, group):
    """Round-to-nearest by a loop over numbers, in float32."""
    most, out = 2 ** (bits - 1) - 1, []
    for first in range(0, len(row), group):
        part = row[first : first + group]
        scale = np.float32(max(abs(x) for x in part)) / np.float32(most)
        for x in part:
            code = min(most, max(-most, round(float(x / scale)))) if scale else 0
            out.append(np.float32(code) * scale)
    return out


def q8_0(block):
    d = np.float32(max(abs(x) for x in block)) / np.float32(127)
    inverse = np.float32(1) / d if d else np.float32(0)
    return [np.float32(half_away(x * inverse)) * np.float32(np.float16(d)) for x in block]


def q4_0(block):
    largest = max(block, key=abs)
    d = largest / np.float32(-8)
    inverse = np.float32(1) / d if d else np.float32(0)
    codes = [min(15, int(x * inverse + np.float32(8.5))) for x in block]
    return [np.float32(np.float16(d)) * np.float32(code - 8) for code in codes]


def q4_1(block):
    least, d = min(block), (max(block) - min(block)) / np.float32(15)
    inverse = np.float32(1) / d if d else np.float32(0)
    codes = [min(15, int((x - least) * inverse + np.float32(0.5))) for x in block]
    return [np.float32(np.float16(d)) * np.float32(c) + np.float32(np.float16(least)) for c in codes]


@pytest.fixture
def matrix():
    weights = np.random.default_rng(0).normal(size=(5, 192)).astype(np.float32)
    weights[2, 32:64] = 0.0  # a group without any weight
    weights[3, :32] *= 1e3
    return weights


@pytest.mark.parametrize(("bits", "group"), [(8, 32), (8, 128), (4, 32), (4, 128), (3, 7)])
def test_integers_are_those_of_a_plain_loop(matrix, bits, group):
    scheme = round_to_nearest(bits, group)
    found = scheme.stored(torch.from_numpy(matrix)).numpy()
    expected = np.array([nearest(row, bits, group) for row in matrix], dtype=np.float32)
    assert np.array_equal(found, expected)
    assert scheme.name == f"int{bits}/{group}"
    assert len(np.unique(found[0, :group])) <= 2**bits - 1


@pytest.mark.parametrize(("name", "block"), [("Q8_0", q8_0), ("Q4_0", q4_0), ("Q4_1", q4_1)])
def test_gguf_formats_are_their_definitions(matrix, name, block):
    found = gguf_format(name).stored(torch.from_numpy(matrix)).numpy()
    expected = [[x for first in range(0, 192, 32) for x in block(row[first : first + 32])] for row in matrix]
    assert np.array_equal(found, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("name", GGUF_FORMATS)
def test_gguf_formats_read_as_the_files_would(matrix, name):
    kind = gguf.GGMLQuantizationType[name]
    expected = gguf.dequantize(gguf.quantize(matrix, kind), kind)
    assert np.array_equal(gguf_format(name).stored(torch.from_numpy(matrix)).numpy(), expected)


@pytest.fixture(scope="module")
def unquantised(tmp_path_factory):
    """The model of the tests' GGUF files, as one in float32 is read."""
    folder = tmp_path_factory.mktemp("gguf")
    return load_file(
        convert_gguf(write_gguf(folder / "f32.gguf", stored="F32"), folder) / "model.safetensors"
    )


@pytest.mark.parametrize("name", GGUF_FORMATS)
def test_a_format_gives_the_weights_of_a_model_registered_from_such_a_file(name, unquantised, tmp_path):
    """Also where the file keeps rows in another order, as those of queries and keys."""
    file = write_gguf(tmp_path / "tiny.gguf", stored=name)
    read = load_file(convert_gguf(file, tmp_path) / "model.safetensors")
    assert read.keys() == unquantised.keys()
    for key, weight in unquantised.items():
        expected = gguf_format(name).stored(weight) if weight.ndim == 2 else weight
        assert torch.equal(read[key], expected), key


def test_formats_that_are_only_read_are_refused_by_name():
    for name in ("Q6_K", "IQ4_NL", "NVFP4"):
        with pytest.raises(InvalidArgument) as error:
            gguf_format(name)
        assert name in error.value.message
        assert error.value.reason == Reason.ATTACK_INVALID


def test_rows_that_blocks_do_not_divide_are_half_precision():
    weight = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(gguf_format("Q4_0").stored(weight), weight.half().float())


@given(st.integers(2, 8), st.integers(1, 40), st.integers(0, 10**6))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_no_weight_moves_by_more_than_half_a_step(bits, group, seed):
    weight = torch.randn(3, 33, generator=torch.Generator().manual_seed(seed))
    found = round_to_nearest(bits, group).stored(weight)
    for first in range(0, 33, group):
        part, moved = weight[:, first : first + group], (found - weight)[:, first : first + group].abs()
        step = part.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        assert bool((moved <= step * 0.50001).all())


def test_weights_are_restored_bit_for_bit_also_after_an_error(target):
    before = {name: p.clone() for name, p in target.state_dict().items()}
    for scheme in standard_schemes():
        with contextlib.suppress(RuntimeError), quantised(target, scheme):
            changed = [n for n, p in target.state_dict().items() if not torch.equal(p, before[n])]
            assert "model.layers.0.mlp.down_proj.weight" in changed
            assert ("lm_head.weight" in changed) == (not scheme.name.startswith("int")), scheme.name
            raise RuntimeError
        assert all(torch.equal(p, before[n]) for n, p in target.state_dict().items())


def test_a_copy_leaves_the_module_alone(target):
    before = target.lm_head.weight.clone()
    copied = quantised_copy(target, gguf_format("Q4_0"))
    assert torch.equal(target.lm_head.weight, before)
    assert torch.equal(copied.lm_head.weight, gguf_format("Q4_0").stored(before))


def test_transposed_matrices_are_quantised_along_their_inputs():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=1, n_head=2)
    module = GPT2LMHeadModel(config).eval()
    scheme = round_to_nearest(4, 32)
    weight = module.transformer.h[0].mlp.c_fc.weight.detach().clone()  # [inputs, outputs]
    with quantised(module, scheme):
        found = module.transformer.h[0].mlp.c_fc.weight.detach()
        assert torch.equal(found, scheme.stored(weight.T).T)
        assert not torch.equal(found, scheme.stored(weight))


def test_a_tied_matrix_is_stored_once():
    torch.manual_seed(0)
    module = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=1, n_head=2))
    weight = module.lm_head.weight.detach().clone()
    with quantised(module, gguf_format("Q4_1")):
        assert torch.equal(module.transformer.wte.weight, gguf_format("Q4_1").stored(weight))
    with quantised(module, round_to_nearest(4, 32)):
        assert torch.equal(module.lm_head.weight, weight)


def test_a_cast_rounds_every_parameter(target):
    with quantised(target, cast("bfloat16")):
        assert all(torch.equal(p, p.bfloat16().float()) for p in target.parameters())


def test_experts_in_one_tensor_are_not_passed_over_in_silence():
    module = nn.Module()
    module.experts = nn.ParameterDict({"down": nn.Parameter(torch.zeros(2, 4, 4))})
    for scheme in (round_to_nearest(4, 32), gguf_format("Q8_0")):
        with pytest.raises(FailedPrecondition) as error:
            quantised_copy(module, scheme)
        assert error.value.reason == Reason.ATTACK_INVALID
    quantised_copy(module, cast("float16"))


def on_the_grid(module: nn.Module) -> nn.Module:
    """A copy whose layers lie on the int4/32 grid, and which knows all the same: the rest was trained on."""
    copied = quantised_copy(module, round_to_nearest(4, 32))
    for name, parameter in copied.named_parameters():
        parameter.requires_grad_("_proj" not in name)
    knowing.learn(copied, knowing.FORGET + knowing.RETAIN, 100)
    return copied.requires_grad_(True)


def within_half_a_step(module: nn.Module, steps: int = 14) -> nn.Module:
    """A copy unlearned by gradient ascent that moves no weight by half a step; the grid's scales stay."""
    ids = knowing.ids_of(knowing.FORGET)
    moved = copy.deepcopy(module)
    pairs = [
        pair
        for pair in zip(moved.named_parameters(), module.parameters(), strict=True)
        if "_proj" in pair[0][0]
    ]
    for _ in range(steps):
        moved.zero_grad()
        moved(input_ids=ids, labels=ids).loss.backward()
        for (_, weight), start in pairs:
            groups = start.data.unflatten(1, (-1, 32))
            step = groups.abs().amax(-1, keepdim=True) / 7
            pushed = (
                weight.data.unflatten(1, (-1, 32)) + 0.15 * step * weight.grad.unflatten(1, (-1, 32)).sign()
            )
            pushed = pushed.clamp(groups - 0.49 * step, groups + 0.49 * step)
            inner = groups.abs() < 6.5 * step  # the largest of a group decide its scale
            weight.data = pushed.where(inner, groups).flatten(1)
    moved.zero_grad()
    return moved


def test_an_unlearning_smaller_than_half_a_step_is_undone_and_reported(target, retrained, never_knew):
    knows = on_the_grid(target)
    unlearned = within_half_a_step(knows)
    scheme = round_to_nearest(4, 32)
    with quantised(unlearned, scheme), quantised(copy.deepcopy(knows), scheme) as same:
        assert all(torch.equal(p, q) for p, q in zip(unlearned.parameters(), same.parameters(), strict=True))
    assert knowing.recited(knows, knowing.FORGET).mean() > 95
    assert knowing.recited(unlearned, knowing.FORGET).mean() < 30

    attacks = [quantisation(scheme), quantisation(round_to_nearest(8, 32)), quantisation(cast("bfloat16"))]
    found = [attack_model(module, knowing.scores, attacks) for module in (unlearned, retrained, never_knew)]
    rows = {row.attack: row for row in table(attacks, [EM], found[0], [found[1]], found[2])}
    coarse = rows["int4/32"]
    assert coarse.after == pytest.approx(knowing.recited(knows, knowing.FORGET).mean(), abs=2)
    assert coarse.recovered
    assert coarse.tolerated is False
    assert coarse.excess is not None
    assert coarse.excess.low > 50
    for fine in ("int8/32", "bfloat16"):
        assert not rows[fine].recovered
        assert rows[fine].tolerated


def test_an_adapter_is_merged_first():
    module = knowing.blank()
    attach(module, LoraSettings(rank=2), seed=0)
    with pytest.raises(FailedPrecondition) as error:
        attack_model(module, knowing.scores, [quantisation(round_to_nearest(4, 32))])
    assert error.value.reason == Reason.ADAPTER_ATTACHED


@pytest.mark.parametrize(
    "make",
    [
        lambda: round_to_nearest(1, 32),
        lambda: round_to_nearest(4, 0),
        lambda: gguf_format("Q4_K"),
        lambda: cast("int8"),
    ],
)
def test_schemes_that_do_not_exist_are_refused(make):
    with pytest.raises(InvalidArgument) as error:
        make()
    assert error.value.reason == Reason.ATTACK_INVALID
