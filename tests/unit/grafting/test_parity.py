"""Grafted passes against transformers' own, and against weights that are physically swapped token by token."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from services.grafting.engine import (
    Configuration,
    Grafter,
    Item,
    LowRankWeights,
    ModelWeights,
    Patch,
    architecture_of,
    low_rank_deltas,
    plan,
)
from services.grafting.engine.configurations import COMPONENTS, LAYER_COMPONENTS
from tests.unit.grafting.zoo import (
    ARCHITECTURES,
    LAYERS,
    drawn,
    drawn_ids,
    everything,
    grafter,
    make,
    near,
    own,
    swapped,
)

OWN, SWAPPED = 1e-4, 1e-3


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


@pytest.fixture(params=list(ARCHITECTURES))
def pair(request):
    return make(request.param, 0), make(request.param, 1)


def test_nothing_and_everything_are_the_models_own_passes(pair):
    ids, engine = drawn_ids(0), grafter(*pair)
    assert largest(own(pair[0], ids), own(pair[1], ids)) > 0.1
    for configuration, model in ((Configuration(), 0), (Configuration(base=1), 1), (everything(9), 1)):
        assert largest(engine.forward(ids, configuration), own(pair[model], ids)) <= OWN


def test_random_masks_are_swaps_of_weights_at_every_token(pair):
    engine = grafter(*pair)
    for seed in range(20):
        ids, configuration = drawn_ids(seed, 6), drawn(seed, 6)
        expected = swapped(pair, ids, configuration)
        assert largest(engine.forward(ids, configuration), expected) <= SWAPPED, f"seed {seed}"


def test_a_mask_of_three_models_is_a_swap_too():
    models = [make("llama", seed) for seed in range(3)]
    ids, configuration = drawn_ids(3), drawn(3, 9, sources=3)
    assert (
        largest(grafter(*models).forward(ids, configuration), swapped(models, ids, configuration)) <= SWAPPED
    )


@pytest.mark.parametrize("seed", range(5))
def test_grafting_one_way_is_not_grafting_the_other(pair, seed: int):
    ids, configuration = drawn_ids(seed), drawn(seed, 9)
    body, outer = configuration.dense(9, LAYERS)
    rest = Configuration(
        tuple(
            Patch((t,), (n,), (name,), 1)
            for t in range(9)
            for n in range(LAYERS)
            for at, name in enumerate(LAYER_COMPONENTS)
            if not body[t, n, at]
        )
        + tuple(
            Patch((t,), (), (name,), 1)
            for t in range(9)
            for at, name in enumerate(COMPONENTS[len(LAYER_COMPONENTS) :])
            if not outer[t, at]
        )
    )
    there = grafter(*pair).forward(ids, configuration)
    back = grafter(*reversed(pair)).forward(ids, rest)
    assert largest(there, back) <= OWN


def test_a_donor_that_is_the_base_changes_nothing(pair):
    ids = drawn_ids(1)
    found = grafter(pair[0], pair[0]).forward(ids, drawn(1, 9))
    assert largest(found, own(pair[0], ids)) <= OWN


def test_the_order_of_patches_that_do_not_overlap_is_of_no_account(pair):
    ids, patches = drawn_ids(2), list(drawn(2, 9).patches)
    engine = grafter(*pair)
    there = engine.forward(ids, Configuration(tuple(patches)))
    assert torch.equal(there, engine.forward(ids, Configuration(tuple(reversed(patches)))))


def test_the_later_of_two_patches_that_overlap_counts():
    models = [make("llama", seed) for seed in range(3)]
    ids, engine = drawn_ids(4), grafter(*models)
    first, second = (
        Patch(range(3), range(2), ("q",), 1),
        Patch(range(2, 5), range(1, 3), ("q", "v"), 2),
    )
    expected = swapped(models, ids, Configuration((first, second)))
    assert largest(engine.forward(ids, Configuration((first, second))), expected) <= SWAPPED
    assert largest(engine.forward(ids, Configuration((second, first))), expected) > SWAPPED


def test_prompts_of_different_lengths_run_together_as_alone(pair):
    engine = grafter(*pair)
    prompts = [drawn_ids(seed, tokens) for seed, tokens in enumerate((9, 4, 1, 9))]
    configurations = [drawn(seed, len(ids)) for seed, ids in enumerate(prompts)]
    items = [
        Item(engine.reference(ids, 0), plan(c, 0, len(ids), LAYERS, 1))
        for ids, c in zip(prompts, configurations, strict=True)
    ]
    together = engine.run(items, 0)
    for ids, configuration, found in zip(prompts, configurations, together, strict=True):
        assert largest(found, engine.forward(ids, configuration, 1)) <= OWN


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("source", [0, 1])
def test_sharing_with_either_model_changes_nothing(pair, seed: int, source: int):
    ids, engine = drawn_ids(seed), grafter(*pair)
    configuration = drawn(seed, 9, share=0.04)
    planned = plan(configuration, source, 9, LAYERS, 3)
    found = engine.run([Item(engine.reference(ids, source, 3), planned)], source, 3)
    assert largest(found[0], engine.forward(ids, configuration)[-3:]) <= OWN


def test_states_that_no_patch_reaches_are_not_computed():
    planned = plan(Configuration((Patch((5,), (2,), ("up",)),)), 0, 9, 3, 1)
    assert planned.row_layers == 0, "an MLP of the last layer is seen at its own position alone"
    planned = plan(Configuration((Patch((5,), (1,), ("up",)),)), 0, 9, 3, 1)
    assert (planned.starts, planned.row_layers) == ((9, 5, 5, 5), 8)
    both = Configuration((Patch((5,), (1,), ("up",)), Patch((2,), (2,), ("k",))))
    assert plan(both, 0, 9, 3, 1).starts == (9, 5, 2, 2)


def test_the_last_layer_at_earlier_positions_changes_the_answer_by_exactly_nothing(pair):
    ids, engine = drawn_ids(5), grafter(*pair)
    unseen = ("q", "o", "mlp_norm", "gate", "up", "down", "final_norm", "head")
    alone = engine.forward(ids, Configuration(), 1)
    grafted = Configuration((Patch(range(8), (LAYERS - 1,), unseen),))
    assert torch.equal(engine.forward(ids, grafted, 1), alone)
    assert torch.equal(
        engine.run([Item(engine.reference(ids, 0), plan(grafted, 0, 9, LAYERS, 1))], 0)[0], alone
    )
    seen = engine.forward(ids, Configuration((Patch(range(8), (LAYERS - 1,), ("v",)),)), 1)
    assert largest(seen, alone) > 1e-3
    assert largest(swapped(pair, ids, grafted)[-1], own(pair[0], ids)[-1]) <= SWAPPED


def test_an_embedding_that_did_not_change_is_no_graft():
    base = make("llama", 0)
    donor = near(base, 1, 0.0)
    with torch.no_grad():
        donor.get_input_embeddings().weight[7] += 1
    engine = grafter(base, donor)
    ids = [3, 4, 7, 5]
    for position, same in ((1, True), (2, False)):
        found = engine.forward(ids, Configuration((Patch((position,), (), ("embedding",)),)))
        assert torch.equal(found, engine.forward(ids, Configuration())) is same


def test_a_head_is_a_component_of_its_own_where_it_is_tied():
    base, donor = make("llama", 0), make("llama", 1)
    ids = drawn_ids(6)
    for name in ("head", "embedding", "final_norm"):
        configuration = Configuration((Patch((8,), (), (name,)),))
        found = grafter(base, donor).forward(ids, configuration)
        assert largest(found, swapped([base, donor], ids, configuration)) <= SWAPPED
        assert largest(found, own(base, ids)) > 1e-2


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox", "qwen3"])
def test_an_adapter_beside_the_base_is_the_merged_model(name: str):
    base = make(name, 0)
    architecture = architecture_of(base)
    weights = ModelWeights(base, architecture)
    targets = {"gpt2": ["c_attn", "c_proj", "c_fc"], "neox": ["query_key_value", "dense", "dense_h_to_4h"]}
    config = LoraConfig(
        r=3, lora_alpha=7, target_modules=targets.get(name, "all-linear"), init_lora_weights=False,
        fan_in_fan_out=name == "gpt2",
    )  # fmt: skip
    torch.manual_seed(3)
    adapted = get_peft_model(near(base, 0, 0.0), config).eval()
    deltas = low_rank_deltas(weights, adapted)
    merged = adapted.merge_and_unload()
    apart = Grafter([weights, LowRankWeights(weights, deltas)], architecture)
    ids, configuration = drawn_ids(8), drawn(8, 9)
    assert largest(own(merged, ids), own(base, ids)) > 1e-2
    assert largest(apart.forward(ids, Configuration(base=1)), own(merged, ids)) <= OWN
    joined = grafter(base, merged).forward(ids, configuration)
    assert largest(apart.forward(ids, configuration), joined) <= SWAPPED


def test_bfloat16_is_as_near_as_bfloat16_is():
    pair = [make("llama", seed, torch.bfloat16) for seed in (0, 1)]
    exact = [make("llama", seed) for seed in (0, 1)]
    ids, configuration = drawn_ids(9), drawn(9, 9)
    found = grafter(*pair).forward(ids, configuration)
    assert found.dtype == torch.float32
    error = (found - grafter(*exact).forward(ids, configuration)).abs().mean()
    assert error <= 0.05 * grafter(*exact).forward(ids, configuration).std()
    assert largest(grafter(*pair).forward(ids, Configuration()), own(pair[0], ids).float()) <= 0.2


def test_a_pass_leaves_the_models_as_they_were(pair):
    before = [{k: v.clone() for k, v in model.state_dict().items()} for model in pair]
    grafter(*pair).forward(drawn_ids(1), drawn(1, 9))
    for model, kept in zip(pair, before, strict=True):
        assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
